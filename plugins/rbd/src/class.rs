//! A storage class: its parameters as users of ceph-csi write them, read into what an image is to be. Whatever is not understood is refused by name.

use crate::id::UUID;
use crate::names::{LONGEST, checked, is_name, shown};
use crate::options;
use crate::settings::{PREFIX, Settings};
use crate::topology::{self, Constrained};
use windlass_plugin_sdk::{Context, Features, FilesystemKind, RbdPool, Refusal, Striping, Topology, TopologyRequirement};

pub(crate) const FSTYPE: &str = "csi.storage.k8s.io/fstype";
pub(crate) const ENCRYPTED: &str = "encrypted";

/// Parameters that are read; those of the orchestrator's own are besides.
const KNOWN: [&str; 16] = [
    "clusterID",
    "pool",
    topology::KEY,
    "radosNamespace",
    "dataPool",
    "imageFeatures",
    "imageFormat",
    "stripeUnit",
    "stripeCount",
    "objectSize",
    "volumeNamePrefix",
    options::KEY,
    "mkfsOptions",
    "mounter",
    ENCRYPTED,
    "thickProvision",
];

/// Parameters whose one value is what there is anyway, and why there is no other.
const FIXED: [(&str, &str, &str); 4] = [
    ("imageFormat", "2", "format 1 has no features, and Ceph has given it up"),
    ("mounter", "rbd", "images are mapped by the kernel client"),
    ("thickProvision", "false", "images take room as they are written"),
    ("mkfsOptions", "", "options of programs are not passed on; leave it out"),
];

/// A feature: its name, its flag, and what it needs.
type Known = (&'static str, Features, Option<(&'static str, Features)>);

/// All that the kernel client knows.
const FEATURES: [Known; 5] = [
    ("layering", Features::LAYERING, None),
    ("exclusive-lock", Features::EXCLUSIVE_LOCK, None),
    ("object-map", Features::OBJECT_MAP, Some(("exclusive-lock", Features::EXCLUSIVE_LOCK))),
    ("fast-diff", Features::FAST_DIFF, Some(("object-map", Features::OBJECT_MAP))),
    ("deep-flatten", Features::DEEP_FLATTEN, None),
];

/// Where an image can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// The pool.
    pub(crate) pool: RbdPool,
    /// A pool for the data alone.
    pub(crate) data_pool: Option<String>,
    /// From where it is reachable; none is everywhere.
    pub(crate) topology: Option<Topology>,
}

/// A storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// The cluster.
    pub(crate) cluster: String,
    /// The namespace; empty is the default one.
    pub(crate) namespace: String,
    /// The pool, where the topology says nothing of it.
    pool: Option<String>,
    /// A pool for the data alone, beside it.
    data_pool: Option<String>,
    /// Pools that are reachable from a part of the nodes.
    constrained: Vec<Constrained>,
    /// What they can do.
    pub(crate) features: Features,
    /// In bytes; `None` is the cluster's own.
    pub(crate) object_size: Option<u64>,
    /// `None` is one object after another.
    pub(crate) striping: Option<Striping>,
    /// What their names begin with.
    pub(crate) prefix: String,
    /// `mapOptions` as they were written, and understood.
    pub(crate) options: String,
    /// The file system, if the class names one.
    pub(crate) filesystem: Option<FilesystemKind>,
}

impl Class {
    /// Reads the parameters, or says which is wrong and what would be right.
    pub(crate) fn read(parameters: &Context, settings: &Settings) -> Result<Self, Refusal> {
        // Not even an empty value: whoever wrote the key had something in mind.
        if let Some(value) = parameters.get(ENCRYPTED).filter(|value| *value != "false") {
            let words = format!("`{ENCRYPTED}` is {:?}, and this driver cannot encrypt; `false` is the one value that it takes", shown(value));
            return Err(Refusal::invalid(words));
        }
        for (key, only, why) in FIXED {
            if let Some(value) = parameters.get(key).filter(|value| !value.is_empty() && *value != only) {
                let possible = if only.is_empty() { String::new() } else { format!("; `{only}` is the one value that it takes") };
                return Err(Refusal::invalid(format!("`{key}` is {:?}: {why}{possible}", shown(value))));
            }
        }
        parameters.only(&KNOWN)?;
        let given = |key: &str| parameters.get(key).filter(|value| !value.is_empty());
        let name = |key: &str| given(key).map(|value| checked(key, value)).transpose();
        let cluster = checked("clusterID", parameters.require("clusterID")?)?;
        let constrained = given(topology::KEY).map(topology::parse).transpose()?.unwrap_or_default();
        if constrained.is_empty() {
            parameters.require("pool")?;
        }
        let namespace = name("radosNamespace")?.unwrap_or_else(|| settings.namespace(&cluster).to_owned());
        let options = given(options::KEY).unwrap_or_default();
        options::parse(options)?;
        let object_size = object_size(parameters)?;
        Ok(Self {
            data_pool: name("dataPool")?,
            features: features(given("imageFeatures"))?,
            object_size,
            striping: striping(parameters, object_size)?,
            prefix: prefix(given("volumeNamePrefix"))?,
            options: options.to_owned(),
            filesystem: given(FSTYPE).map(filesystem).transpose()?,
            pool: parameters.get("pool").map(|pool| checked("pool", pool)).transpose()?,
            constrained,
            cluster,
            namespace,
        })
    }

    /// Where an image can be made that is wanted there, the best place first; never none.
    pub(crate) fn sites(&self, wanted: &TopologyRequirement) -> Result<Vec<Site>, Refusal> {
        let anywhere = wanted.requisite.is_empty() && wanted.preferred.is_empty();
        if self.constrained.is_empty() || anywhere {
            let pool = self.pool.as_ref().ok_or_else(|| Refusal::invalid("`pool` is required where no topology is asked for"))?;
            return Ok(vec![Site { pool: self.at(pool), data_pool: self.data_pool.clone(), topology: None }]);
        }
        let site = |(constrained, place): (&Constrained, Topology)| Site {
            pool: self.at(&constrained.pool),
            data_pool: constrained.data_pool.clone(),
            topology: Some(place),
        };
        let sites: Vec<Site> = topology::choices(&self.constrained, wanted).into_iter().map(site).collect();
        if sites.is_empty() {
            let words = format!("no pool of `{}` is reachable from where the volume is wanted", topology::KEY);
            return Err(Refusal::exhausted(words));
        }
        Ok(sites)
    }

    /// All places where the class makes images.
    pub(crate) fn pools(&self) -> Vec<RbdPool> {
        self.pool.iter().chain(self.constrained.iter().map(|constrained| &constrained.pool)).map(|pool| self.at(pool)).collect()
    }

    fn at(&self, pool: &str) -> RbdPool {
        RbdPool { cluster: self.cluster.clone(), pool: pool.to_owned(), namespace: self.namespace.clone() }
    }
}

/// All that the kernel client knows, if the class does not say. `object-map` and `fast-diff` make the proof that an image was never written
/// quick, however large it is, and `deep-flatten` cannot be added later.
fn features(text: Option<&str>) -> Result<Features, Refusal> {
    let Some(text) = text else { return Ok(Features::all()) };
    let mut features = Features::empty();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some((_, feature, _)) = FEATURES.into_iter().find(|(known, ..)| *known == name) else {
            let known = FEATURES.map(|(known, ..)| known).join(", ");
            return Err(Refusal::invalid(format!(
                "`imageFeatures` has {:?}, which is not known, or not to the kernel client; known are: {known}",
                shown(name)
            )));
        };
        features |= feature;
    }
    for (name, feature, needs) in FEATURES {
        let missing = needs.filter(|(_, base)| features.contains(feature) && !features.contains(*base));
        if let Some((needed, _)) = missing {
            return Err(Refusal::invalid(format!("`imageFeatures` has `{name}`, which needs `{needed}`")));
        }
    }
    Ok(features)
}

fn object_size(parameters: &Context) -> Result<Option<u64>, Refusal> {
    let size = parameters.parse::<u64>("objectSize")?;
    match size {
        Some(size) if !size.is_power_of_two() || !(4096..=32 << 20).contains(&size) => {
            Err(Refusal::invalid(format!("`objectSize` is {size}; a power of two between 4096 and 33554432 bytes is possible")))
        }
        size => Ok(size),
    }
}

fn striping(parameters: &Context, object_size: Option<u64>) -> Result<Option<Striping>, Refusal> {
    let (unit, count) = match (parameters.parse::<u64>("stripeUnit")?, parameters.parse::<u64>("stripeCount")?) {
        (None, None) => return Ok(None),
        (Some(unit), Some(count)) => (unit, count),
        _ => return Err(Refusal::invalid("`stripeUnit` and `stripeCount` belong together: one of them is missing")),
    };
    // Where the class does not say, objects have 4 MiB unless the cluster was configured otherwise; it has the last word.
    let object = object_size.unwrap_or(4 << 20);
    if unit < 512 || object % unit != 0 {
        return Err(Refusal::invalid(format!(
            "`stripeUnit` is {unit}; 512 bytes or more that divide the size of an object ({object} bytes, `objectSize`) are possible"
        )));
    }
    if !(1..=1024).contains(&count) {
        return Err(Refusal::invalid(format!("`stripeCount` is {count}; 1 to 1024 are possible")));
    }
    Ok(Some(Striping { unit, count }))
}

fn prefix(text: Option<&str>) -> Result<String, Refusal> {
    let prefix = text.unwrap_or(PREFIX);
    if is_name(prefix) && prefix.len() + UUID <= LONGEST {
        return Ok(prefix.to_owned());
    }
    let longest = LONGEST - UUID;
    Err(Refusal::invalid(format!("`volumeNamePrefix` is {:?}; it has 1 to {longest} letters, digits, `-`, `_`, `.`, `:` or `+`", shown(prefix))))
}

pub(crate) fn filesystem(name: &str) -> Result<FilesystemKind, Refusal> {
    FilesystemKind::named(name).ok_or_else(|| Refusal::invalid(format!("`{FSTYPE}` is {:?}; ext4 and xfs are possible", shown(name))))
}
