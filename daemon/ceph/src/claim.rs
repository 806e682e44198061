//! Who may use an image: the proof and the lock that a node needs before it maps one, and how both end.

use crate::cluster::{Cluster, Place};
use crate::encoding::{Decoder, Encoder, Malformed, ip_of};
use crate::error::{CephError, Errno};
use crate::ffi::{Image, Watcher};
use crate::flatten::INVALID_MAP;
use crate::header::{HEAD, MOST_METADATA, header_of, rbd};
use crate::lock::{self, Form, Lock, Locker};
use std::collections::BTreeSet;
use std::net::IpAddr;
use windlass_plan::rbd::{Claimed, Feature, Hold, Holder, PoolAt, RbdName};
use windlass_plan::request::Context;

/// Objects that are looked for one by one in an image without a map of them: 64 GiB of 4 MiB each, some seconds. A larger one counts as
/// written, since nobody would wait for the proof.
const LOOKED_FOR: u64 = 16 << 10;
/// How often the lock is tried when it changes hands while it is looked at.
const ATTEMPTS: usize = 4;

/// How long a fenced client stays shut out, in seconds: a year. With the hour that is Ceph's own, a node that was cut off for longer would
/// write what it still had, over what the next one wrote. A client that is made anew, by a reboot or once all is unmapped, is not concerned.
const FENCED_FOR: f64 = 365.0 * 24.0 * 3600.0;

/// What an image is before it is claimed.
struct Before {
    id: String,
    header: String,
    size: u64,
    objects: u64,
    features: u64,
    /// Its object map cannot be relied on (`RBD_FLAG_OBJECT_MAP_INVALID`, `RBD_FLAG_FAST_DIFF_INVALID`).
    is_map_invalid: bool,
    metadata: Context,
    lock: Lock,
}

/// What a claim did to the lock.
#[derive(PartialEq, Eq)]
enum Taken {
    /// It was this node's before.
    Before,
    /// It is this call's.
    Now,
}

impl Cluster {
    /// Claims an image for a node: takes our lock in the form that `hold` needs, then makes sure that nobody else has the image open, then
    /// finds out whether it was ever written. The node that holds it already may ask again, also through another client, but not in another
    /// form: it may be writing, whatever it asks for now, and a form that lets readers in would let them see half of it.
    ///
    /// Errors: `NotFound`; `Held`, naming the other nodes; `HeldOtherwise`; `Watched`, naming addresses. After each, the lock is as before.
    pub fn claim(&self, at: &PoolAt, name: &RbdName, hold: Hold, holder: &Holder) -> Result<Claimed, CephError> {
        self.counted("claim", || {
            let place = self.place(at)?;
            let form = Form::of(hold);
            let (before, taken) = place.take(name, form, holder)?;
            place.prove(name, &before, form, holder).inspect_err(|_| place.put_back(name, &before, &taken, form, holder))
        })
    }

    /// Gives a node's claim up, whichever client took it; no other node's is touched. A node that still has the image open is fenced first:
    /// its client is put on the cluster's blocklist, and with it every image that the same kernel client has mapped. Nothing is done where
    /// the node has no claim, or the image is gone. Without a node, all give it up.
    pub fn release(&self, at: &PoolAt, name: &RbdName, holder: Option<&Holder>) -> Result<(), CephError> {
        self.counted("release", || {
            let place = self.place(at)?;
            let Some(id) = place.id(name)? else { return Ok(()) };
            let header = header_of(&id);
            let Some((ours, theirs)) = place.locks(name, &header)? else { return Ok(()) };
            let mine: Vec<&Locker> = ours.lockers.iter().filter(|locker| holder.is_none_or(|holder| locker.cookie == holder.node.as_str())).collect();
            if mine.is_empty() {
                return Ok(());
            }
            // Where the node was when it claimed, and where it says it is now.
            let mut addresses: BTreeSet<IpAddr> = mine.iter().flat_map(|locker| locker.node_addresses()).collect();
            addresses.extend(holder.iter().flat_map(|holder| &holder.addresses));
            let fenced = place.clients_of(name, &id, &theirs, &addresses)?;
            self.fence(&fenced)?;
            let failed = place.failed("let go of", name);
            mine.into_iter().try_for_each(|locker| lock::break_off(&place.io, &header, lock::OURS, locker).map_err(&failed))
        })
    }

    /// Shuts clients out of the cluster, and waits until that is known.
    fn fence(&self, addresses: &BTreeSet<String>) -> Result<(), CephError> {
        if addresses.is_empty() {
            return Ok(());
        }
        for address in addresses {
            tracing::warn!(%address, "a client of a node that lost its claim is put on the cluster's blocklist");
            let ask = |word: &str| self.command("fence", format!("the client {address}"), &blocklisting(word, address));
            // Before Ceph 16 the command had another name.
            ask("blocklist").or_else(|error| if matches!(error, CephError::Invalid { .. }) { ask("blacklist") } else { Err(error) })?;
        }
        self.rados.wait_for_latest_osdmap().map_err(|errno| CephError::of("wait for", "the map of OSDs with the fenced clients".to_owned(), errno))
    }
}

fn blocklisting(word: &str, address: &str) -> serde_json::Value {
    serde_json::json!({ "prefix": format!("osd {word}"), format!("{word}op"): "add", "addr": address, "expire": FENCED_FOR })
}

impl Place<'_> {
    /// Takes the lock, or finds that the node has it.
    fn take(&self, name: &RbdName, form: Form, holder: &Holder) -> Result<(Before, Taken), CephError> {
        let failed = self.failed("claim", name);
        let mut others = Vec::new();
        for _ in 0..ATTEMPTS {
            let before = self.look(name)?;
            let (mine, theirs): (Vec<_>, Vec<_>) = before.lock.lockers.iter().partition(|locker| locker.cookie == holder.node.as_str());
            if !mine.is_empty() {
                let is_so = before.lock.is(form);
                return if is_so {
                    Ok((before, Taken::Before))
                } else {
                    Err(CephError::HeldOtherwise { image: self.image(name), node: holder.node.to_string() })
                };
            }
            let may_join = form.is_shared() && before.lock.is(form);
            if !theirs.is_empty() && !may_join {
                return Err(self.held(name, theirs.iter().map(|locker| locker.cookie.clone()).collect()));
            }
            match lock::take(&self.io, &before.header, form, holder) {
                Ok(()) => return Ok((before, Taken::Now)),
                Err(Errno(libc::EBUSY)) => others = vec!["somebody who came at the same time".to_owned()],
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(self.held(name, others))
    }

    fn held(&self, name: &RbdName, nodes: Vec<String>) -> CephError {
        CephError::Held { image: self.image(name), nodes }
    }

    /// Who has the image, what it is: 2 operations.
    fn look(&self, name: &RbdName) -> Result<Before, CephError> {
        let id = self.id(name)?.ok_or_else(|| self.not_found(name))?;
        let header = header_of(&id);
        let snapshot = Encoder::default().u64(HEAD).bytes();
        let features = Encoder::default().u64(HEAD).u8(1).bytes();
        let question = lock::question(lock::OURS);
        let metadata = Encoder::default().text("").u64(MOST_METADATA).bytes();
        let calls = [
            rbd(c"get_size", &snapshot),
            rbd(c"get_features", &features),
            rbd(c"get_flags", &snapshot),
            rbd(c"metadata_list", &metadata),
            lock::info(&question),
        ];
        let answers = self.io.ask(&header, &calls);
        let answers = answers.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>()).map_err(self.failed("look at", name))?;
        let read = |answers: &[Vec<u8>]| -> Result<(u8, u64, u64, u64, Context, Lock), Malformed> {
            let [size, features, flags, metadata, lock] = answers else { return Err(Malformed) };
            let mut size = Decoder::of(size);
            Ok((size.u8()?, size.u64()?, Decoder::of(features).u64()?, Decoder::of(flags).u64()?, Decoder::of(metadata).map()?, lock::read(lock)?))
        };
        let (order, size, features, flags, metadata, lock) = read(&answers).map_err(self.malformed(name))?;
        let objects = size.div_ceil(1u64.checked_shl(u32::from(order)).unwrap_or(u64::MAX).max(1));
        Ok(Before { id, header, size, objects, features, is_map_invalid: flags & INVALID_MAP != 0, metadata, lock })
    }

    /// Nobody but those who may has the image open; was it ever written? About 25 operations where there is an object map.
    fn prove(&self, name: &RbdName, before: &Before, form: Form, holder: &Holder) -> Result<Claimed, CephError> {
        let failed = self.failed("look at", name);
        let image = self.io.open_to_look(&before.id).map_err(&failed)?;
        let mut allowed: BTreeSet<IpAddr> = holder.addresses.iter().map(IpAddr::to_canonical).collect();
        if form.is_shared() {
            allowed.extend(before.lock.lockers.iter().flat_map(Locker::node_addresses));
        }
        let foreign: Vec<String> = (self.others(&image).map_err(&failed)?.into_iter())
            .filter(|watcher| ip_of(&watcher.address).is_none_or(|ip| !allowed.contains(&ip)))
            .map(|watcher| watcher.address)
            .collect();
        if !foreign.is_empty() {
            return Err(CephError::Watched { image: self.image(name), addresses: foreign });
        }
        // librbd looks for every object where it cannot rely on the map, however many there are.
        let has_map = before.features & Feature::FastDiff.bit() != 0 && !before.is_map_invalid;
        let is_quick = has_map || before.objects <= LOOKED_FOR;
        let is_never_written = is_quick && !image.has_objects(before.size).map_err(&failed)?;
        Ok(Claimed { identity: self.identity(before.id.clone()), is_never_written, metadata: before.metadata.clone() })
    }

    /// Undoes what this call did to the lock. Where that fails the node is left with a claim, which release takes away.
    fn put_back(&self, name: &RbdName, before: &Before, taken: &Taken, form: Form, holder: &Holder) {
        let undo = || -> Result<(), CephError> {
            let failed = self.failed("put back the lock of", name);
            let Some((now, _)) = self.locks(name, &before.header)? else { return Ok(()) };
            if now.is(form) {
                for locker in now.lockers.iter().filter(|locker| locker.cookie == holder.node.as_str()) {
                    lock::break_off(&self.io, &before.header, lock::OURS, locker).map_err(&failed)?;
                }
            }
            Ok(())
        };
        if *taken == Taken::Before {
            return;
        }
        if let Err(error) = undo() {
            tracing::warn!(image = %name, node = %holder.node, "a claim that came to nothing could not be given up: {error}");
        }
    }

    /// Our lock and the one of exclusive-lock: 1 operation. `None` where the image is gone.
    pub(crate) fn locks(&self, name: &RbdName, header: &str) -> Result<Option<(Lock, Lock)>, CephError> {
        let questions = [lock::question(lock::OURS), lock::question(lock::THEIRS)];
        let answers = self.io.ask(header, &[lock::info(&questions[0]), lock::info(&questions[1])]);
        match answers.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>()) {
            Ok(answers) => {
                let [ours, theirs] = answers.as_slice() else { return Err(self.malformed(name)(Malformed)) };
                let locks = lock::read(ours).and_then(|ours| Ok((ours, lock::read(theirs)?)));
                locks.map(Some).map_err(self.malformed(name))
            }
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(errno) => Err(self.failed("see who holds", name)(errno)),
        }
    }

    /// Who watches the image beside this process.
    pub(crate) fn others(&self, image: &Image<'_>) -> Result<Vec<Watcher>, Errno> {
        let own = self.cluster.rados.instance().cast_signed();
        Ok(image.watchers()?.into_iter().filter(|watcher| watcher.client != own).collect())
    }

    /// Clients on these addresses that still have the image open, or hold the lock of exclusive-lock.
    fn clients_of(&self, name: &RbdName, id: &str, theirs: &Lock, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<String>, CephError> {
        let failed = self.failed("see who uses", name);
        let addresses: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        let is_on_node = |ip: Option<IpAddr>| ip.is_some_and(|ip| addresses.contains(&ip));
        let own = self.cluster.rados.instance().cast_signed();
        let watchers = match self.io.open_to_look(id) {
            Ok(image) => self.others(&image).map_err(&failed)?,
            // Being deleted: nobody has it open.
            Err(Errno(libc::ENOENT)) => Vec::new(),
            Err(errno) => return Err(failed(errno)),
        };
        let watching = watchers.into_iter().map(|watcher| watcher.address).filter(|address| is_on_node(ip_of(address)));
        let locking = theirs.lockers.iter().filter(|locker| locker.client != own && is_on_node(locker.ip())).map(|locker| locker.address.clone());
        Ok(watching.chain(locking).collect())
    }
}
