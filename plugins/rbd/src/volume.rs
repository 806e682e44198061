//! A volume as an image: where an id leads, what is kept with the image, and whether one that exists is the one that is wished for.

use crate::class::{Class, ENCRYPTED, FSTYPE, Site};
use crate::id::{Id, Place, unknown};
use crate::mutable;
use crate::names::{checked, shown};
use crate::options;
use crate::settings::{self, Settings};
use crate::snapshot;
use crate::usage::{FILESYSTEM, Usage};
use windlass_plugin_sdk::*;

/// The secrets that open a cluster, as ceph-csi calls them.
pub(crate) const USER: &str = "userID";
pub(crate) const KEY: &str = "userKey";

/// The key of volume_context that names the file system.
pub(crate) const CONTEXT_FILESYSTEM: &str = "filesystem";

/// The key of volume_context that says of a copy that it is one, and its value.
pub(crate) const CONTENT: &str = "content";
pub(crate) const COPY: &str = "copy";

const NAME: &str = "windlass.name";
/// Of what it is a copy, by id.
pub(crate) const SOURCE: &str = "windlass.source";
/// The size that a copy is to have, in bytes: it is made as large as its source, and grows after.
pub(crate) const SIZE: &str = "windlass.size";
const LAYOUT: &str = "windlass.layout";
const OBJECT_SIZE: &str = "windlass.object-size";
const STRIPING: &str = "windlass.striping";
const OPTIONS: &str = "windlass.map-options";

/// What ceph-csi reads as "no".
const FALSE: [&str; 6] = ["0", "f", "F", "false", "False", "FALSE"];

/// The version of the metadata.
const CURRENT_LAYOUT: &str = "1";

/// Metadata in which a volume and a wish must agree; empty is as good as not there.
const COMPARED: [&str; 7] = [NAME, crate::usage::ACCESS, FILESYSTEM, OBJECT_SIZE, STRIPING, OPTIONS, SOURCE];

/// What the orchestrator tells of whom a volume is for: kept with the image, for people.
const FOR_PEOPLE: [&str; 3] = ["csi.storage.k8s.io/pv/name", "csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/pvc/namespace"];

/// The names of the two secrets.
pub(crate) fn credentials() -> Credentials {
    Credentials { user: USER.to_owned(), key: KEY.to_owned() }
}

/// The images beside this one.
pub(crate) fn images<'a>(clusters: &Clusters<'a>, place: &Place) -> Images<'a> {
    clusters.images(place.pool.clone(), credentials())
}

/// Where the image of a volume is, for the node. Nothing can be asked there: what an id of ceph-csi leaves out is in volume_context.
pub(crate) fn on_node(id: &str, context: &Context, settings: &Settings) -> Result<Place, Refusal> {
    match Id::parse(id).ok_or_else(|| unknown(id))? {
        Id::Ours(place) => Ok(place),
        Id::CephCsi { cluster, uuid, .. } => {
            let image = named(context, "imageName")?.unwrap_or_else(|| format!("{}{uuid}", settings.prefixes[0]));
            let namespace = named(context, "radosNamespace")?.unwrap_or_else(|| settings.namespace(&cluster).to_owned());
            Ok(Place { pool: RbdPool { pool: checked("pool", context.require("pool")?)?, cluster, namespace }, image })
        }
    }
}

fn named(context: &Context, key: &str) -> Result<Option<String>, Refusal> {
    context.get(key).filter(|value| !value.is_empty()).map(|value| checked(key, value)).transpose()
}

/// Places where the image of a volume can be, for the controller: one, or several where ceph-csi may have called it otherwise. Some of
/// the controller's calls have no more than the id to find it by, so none uses more.
pub(crate) fn in_cluster(clusters: &Clusters<'_>, id: &str, settings: &Settings) -> Result<Vec<Place>, Refusal> {
    let (cluster, number, uuid) = match Id::parse(id).ok_or_else(|| unknown(id))? {
        Id::Ours(place) => return Ok(vec![place]),
        Id::CephCsi { cluster, pool, uuid } => (cluster, pool, uuid),
    };
    let Some(pool) = clusters.pool_name(&cluster, &credentials(), number)? else {
        return Err(Refusal::not_found(format!("the cluster {cluster} has no pool of the number {number}, which the volume's id names")));
    };
    let pool = RbdPool { namespace: settings.namespace(&cluster).to_owned(), cluster, pool };
    Ok(settings.prefixes.iter().map(|prefix| Place { pool: pool.clone(), image: format!("{prefix}{uuid}") }).collect())
}

/// Refuses a volume of ceph-csi whose context says that it is where its id alone does not lead: it could be given to a node, and never be
/// taken back or deleted.
pub(crate) fn refuse_hidden(places: &[Place], context: &Context) -> Result<(), Refusal> {
    let said = [("imageName", settings::PREFIXES), ("radosNamespace", settings::NAMESPACES)];
    for (key, setting) in said {
        let Some(value) = named(context, key)? else { continue };
        let leads_there = |place: &Place| value == if key == "imageName" { &*place.image } else { &*place.pool.namespace };
        if !places.iter().any(leads_there) {
            let words = format!("`{key}` in volume_context is {value:?}, which the volume's id does not say; set `{setting}` in the driver's [config]");
            return Err(Refusal::precondition(words));
        }
    }
    Ok(())
}

/// The image of a volume, and where it is.
pub(crate) fn find(clusters: &Clusters<'_>, id: &str, settings: &Settings) -> Result<(Place, Image), Refusal> {
    for place in in_cluster(clusters, id, settings)? {
        if let Some(image) = images(clusters, &place).stat(&place.image)? {
            return Ok((place, image));
        }
    }
    Err(unknown(id))
}

/// What a volume is encrypted with, this driver cannot read: it must neither be formatted nor be shown.
pub(crate) fn refuse_encrypted(context: &Context) -> Result<(), Refusal> {
    match context.get(ENCRYPTED).filter(|value| !FALSE.contains(value)) {
        Some(value) => Err(Refusal::invalid(format!("the volume was made with `{ENCRYPTED}` {:?}, and this driver cannot decrypt", shown(value)))),
        None => Ok(()),
    }
}

/// What is kept with the image: what it was made as, in words that a second call can compare.
pub(crate) fn metadata(facts: &CreateFacts, class: &Class, usage: &Usage) -> Result<Context, Refusal> {
    let mut metadata: Context = usage.metadata().iter().chain(mutable::metadata(&facts.mutable_parameters)?.iter()).collect();
    metadata = metadata.with(NAME, &facts.name).with(LAYOUT, CURRENT_LAYOUT);
    if let Some(size) = class.object_size {
        metadata = metadata.with(OBJECT_SIZE, size.to_string());
    }
    if let Some(Striping { unit, count }) = class.striping {
        metadata = metadata.with(STRIPING, format!("{unit} x {count}"));
    }
    if !class.options.is_empty() {
        metadata = metadata.with(OPTIONS, class.options.as_str());
    }
    Ok(metadata)
}

/// The same of a copy. It takes its source's metadata over, so that what it does not have is said to be empty.
pub(crate) fn copy_metadata(facts: &CreateFacts, class: &Class, usage: &Usage, source: &str) -> Result<Context, Refusal> {
    let said = metadata(facts, class, usage)?.with(SOURCE, source);
    let keys = COMPARED.into_iter().chain(snapshot::KEYS).map(str::to_owned).chain(mutable::keys());
    Ok(keys.fold(said, |said, key| if said.get(&key).is_some() { said } else { said.with(key, "") }))
}

/// Parameters that may change are no reason to refuse a volume that exists: it gets those that are asked for.
pub(crate) fn modify(images: &Images<'_>, image: &Image, facts: &CreateFacts) -> Result<(), Refusal> {
    let wanted = mutable::metadata(&facts.mutable_parameters)?;
    let is_so = wanted.iter().all(|(key, value)| image.metadata.get(key).unwrap_or_default() == value);
    if is_so { Ok(()) } else { images.set_metadata(&image.name, wanted) }
}

/// Does an image say that it is the volume of this name?
pub(crate) fn is_called(image: &Image, name: &str) -> bool {
    image.metadata.get(NAME) == Some(name)
}

/// The same with what people want to know.
pub(crate) fn with_owner(metadata: &Context, parameters: &Context) -> Context {
    let owner = FOR_PEOPLE.into_iter().filter_map(|key| parameters.get(key).map(|value| (key, value)));
    metadata.iter().chain(owner).collect()
}

/// An image that exists, beside what is wished for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is the volume.
    Same,
    /// It would be, but nothing was written down: whoever made it died between the two.
    Undescribed,
}

/// Is the image that exists, and has or is to have `size` bytes, the volume that is wished for?
pub(crate) fn compare(image: &Image, size: u64, facts: &CreateFacts, class: &Class, site: &Site, wanted: &Context) -> Result<Existing, Refusal> {
    let differs = |words: String| Err(Refusal::already_exists(format!("a volume of this name exists, and differs: {words}")));
    if !facts.capacity.admits(size) {
        return differs(format!("it has {size} bytes, which is not in the range that is asked for"));
    }
    if image.features != class.features {
        return differs("its `imageFeatures` are others".to_owned());
    }
    if image.data_pool != site.data_pool {
        let said = |pool: &Option<String>| pool.clone().unwrap_or_else(|| "none".to_owned());
        return differs(format!("its `dataPool` is {}, not {}", said(&image.data_pool), said(&site.data_pool)));
    }
    if image.metadata.is_empty() {
        return Ok(Existing::Undescribed);
    }
    if image.metadata.get(LAYOUT) != Some(CURRENT_LAYOUT) {
        return differs("its image was not made by this driver".to_owned());
    }
    let value = |metadata: &'_ Context, key: &str| metadata.get(key).unwrap_or_default().to_owned();
    match COMPARED.into_iter().find(|key| value(&image.metadata, key) != value(wanted, key)) {
        Some(key) => {
            let said = |metadata: &Context| shown(metadata.get(key).unwrap_or("none"));
            differs(format!("its `{key}` is {:?}, not {:?}", said(&image.metadata), said(wanted)))
        }
        None => Ok(Existing::Same),
    }
}

/// Where the volume of this image is made: where it is already, if it is, else at the best of the places that can be had.
pub(crate) fn site(clusters: &Clusters<'_>, class: &Class, facts: &CreateFacts, image: &str) -> Result<Site, Refusal> {
    let sites = class.sites(&facts.topology);
    let pools = class.pools();
    // Another call for the same name may have come with another preference.
    for pool in pools.iter().filter(|_| pools.len() > 1) {
        if clusters.images(pool.clone(), credentials()).stat(image)?.is_none() {
            continue;
        }
        let there = sites.iter().flatten().find(|site| site.pool == *pool);
        return there
            .cloned()
            .ok_or_else(|| Refusal::already_exists(format!("a volume of this name exists in the pool {}, which the topology excludes", pool.pool)));
    }
    sites.map(|mut sites| sites.swap_remove(0))
}

/// What the node is told of a new volume, besides its id.
pub(crate) fn context(class: &Class, usage: &Usage) -> Context {
    let mut context = Context::new();
    if let Some(kind) = usage.filesystem {
        context = context.with(CONTEXT_FILESYSTEM, kind.name());
    }
    if !class.options.is_empty() {
        context = context.with(options::KEY, class.options.as_str());
    }
    context
}

/// The file system that a volume was made for, if its context says.
pub(crate) fn made_for(context: &Context) -> Option<FilesystemKind> {
    [CONTEXT_FILESYSTEM, FSTYPE].into_iter().find_map(|key| context.get(key)).and_then(FilesystemKind::named)
}
