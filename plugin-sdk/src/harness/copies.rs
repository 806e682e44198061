//! Snapshots, copies and ceph-csi's journal in the simulated clusters.

use super::Harness;
use super::clusters::{Kept, check_name};
use crate::{Context, Credentials, Image, ImageSnapshot, ImageWish, RbdPool, Refusal};

/// What the names of a driver's own snapshots begin with.
const OURS: &str = "windlass.";

/// When the first snapshot was taken; each is one second later than the one before.
const FIRST: u64 = 1_700_000_000;

/// What the names of the journal's objects begin with.
const JOURNAL: &str = "csi.";

impl Harness {
    /// The names of an image's snapshots, in the order in which they were taken.
    pub fn snapshots(&self, pool: &RbdPool, name: &str) -> Vec<String> {
        let names = |kept: &Kept| kept.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect();
        self.looked_at(pool, |pool_| pool_.images.get(&(pool.namespace.clone(), name.to_owned())).map(names)).flatten().unwrap_or_default()
    }

    /// Gives an image a snapshot behind the driver's back.
    pub fn put_snapshot(&self, pool: &RbdPool, name: &str, snapshot: &str) {
        let put = |kept: &mut Kept| kept.snapshots.push(ImageSnapshot { name: snapshot.to_owned(), size: kept.image.size, created: FIRST });
        let done = self.looked_at(pool, |kept| kept.images.get_mut(&(pool.namespace.clone(), name.to_owned())).map(put)).flatten();
        done.expect("the test gives a snapshot to an image that exists");
    }

    /// Puts an object into the journal of a granted pool behind the driver's back.
    pub fn put_journal(&self, pool: &RbdPool, object: &str, values: Context) {
        let put = self.looked_at(pool, |kept| kept.journal.insert((pool.namespace.clone(), object.to_owned()), values));
        put.expect("the test writes the journal of a pool that it granted");
    }

    /// An object of a pool's journal, if it exists.
    pub fn journal_of(&self, pool: &RbdPool, object: &str) -> Option<Context> {
        self.looked_at(pool, |kept| kept.journal.get(&(pool.namespace.clone(), object.to_owned())).cloned()).flatten()
    }

    pub(super) fn snapshot_taken(&self, at: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(ImageSnapshot, bool), Refusal> {
        check_name("snapshot", snapshot)?;
        if !snapshot.starts_with(OURS) {
            return Err(Refusal::PermissionDenied(format!("the snapshot's name {snapshot:?} does not begin with `{OURS}`")));
        }
        self.with_image(at, credentials, name, |kept| {
            if let Some(taken) = kept.snapshots.iter().find(|taken| taken.name == snapshot) {
                return Ok((taken.clone(), false));
            }
            let created = FIRST + kept.snapshots.len() as u64;
            let taken = ImageSnapshot { name: snapshot.to_owned(), size: kept.image.size, created };
            kept.snapshots.push(taken.clone());
            Ok((taken, true))
        })
    }

    pub(super) fn snapshot_deleted(&self, at: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(), Refusal> {
        check_name("snapshot", snapshot)?;
        let deleted = self.with_image(at, credentials, name, |kept| {
            kept.snapshots.retain(|taken| taken.name != snapshot);
            Ok(())
        });
        if matches!(deleted, Err(Refusal::NotFound(_))) { Ok(()) } else { deleted }
    }

    pub(super) fn copied(
        &self,
        (from, name, snapshot): (&RbdPool, &str, &str),
        credentials: &Credentials,
        (to, copy): (&RbdPool, &str),
        wish: ImageWish,
    ) -> Result<(Image, bool), Refusal> {
        check_name("snapshot", snapshot)?;
        check_name("copy", copy)?;
        if from.cluster != to.cluster {
            return Err(Refusal::invalid("`to` is in another cluster than the image that is copied"));
        }
        self.check_wish(to, credentials, &wish)?;
        let source = self.with_image(from, credentials, name, |kept| {
            let taken = kept.snapshots.iter().find(|taken| taken.name == snapshot).cloned();
            taken.map(|taken| (taken.size, kept.image.metadata.clone())).ok_or_else(|| Refusal::not_found(format!("there is no snapshot {name}@{snapshot}")))
        });
        let key = (to.namespace.clone(), copy.to_owned());
        self.with_pool(to, credentials, |pool| {
            if let Some(kept) = pool.images.get(&key) {
                return Ok((kept.image.clone(), false));
            }
            let (size, inherited) = source?;
            let ImageWish { features, data_pool, metadata, .. } = wish;
            let metadata = inherited.iter().chain(metadata.iter()).collect();
            let id = format!("c0{:x}", pool.images.len());
            let image = Image { name: copy.to_owned(), id, size, features, data_pool, metadata };
            let mut kept = Kept::new(image.clone());
            kept.source = Some((from.clone(), name.to_owned(), snapshot.to_owned()));
            pool.images.insert(key, kept);
            Ok((image, true))
        })
    }

    /// With a copy goes the snapshot that is its own.
    pub(super) fn delete_own_snapshot(&self, gone: Option<Kept>) {
        let Some(Kept { image, source: Some((pool, name, snapshot)), .. }) = gone else { return };
        if snapshot.strip_prefix(OURS).is_some_and(|rest| image.name.ends_with(rest)) {
            self.looked_at(&pool, |kept| {
                if let Some(source) = kept.images.get_mut(&(pool.namespace.clone(), name)) {
                    source.snapshots.retain(|taken| taken.name != snapshot);
                }
            });
        }
    }

    pub(super) fn journal_read(&self, at: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<Context, Refusal> {
        check_object(object)?;
        self.with_pool(at, credentials, |pool| {
            let values = pool.journal.get(&(at.namespace.clone(), object.to_owned()));
            Ok(values.into_iter().flat_map(Context::iter).filter(|(key, _)| keys.iter().any(|asked| asked == key)).collect())
        })
    }

    pub(super) fn journal_cut(&self, at: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<(), Refusal> {
        check_object(object)?;
        self.with_pool(at, credentials, |pool| {
            let key = (at.namespace.clone(), object.to_owned());
            if keys.is_empty() {
                pool.journal.remove(&key);
            } else if let Some(values) = pool.journal.get_mut(&key) {
                *values = values.iter().filter(|(key, _)| !keys.iter().any(|cut| cut == key)).collect();
            }
            Ok(())
        })
    }
}

fn check_object(object: &str) -> Result<(), Refusal> {
    check_name("object", object)?;
    if object.starts_with(JOURNAL) {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("the object {object} is none of a journal: their names begin with `{JOURNAL}`")))
    }
}
