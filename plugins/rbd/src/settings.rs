//! The operator's configuration: what ceph-csi kept in a file of its own and never wrote into an id.

use crate::names::{checked, is_name};
use windlass_plugin_sdk::{Host, Refusal};

pub(crate) const NAMESPACES: &str = "rados_namespaces";
pub(crate) const PREFIXES: &str = "ceph_csi_prefixes";
const INSTANCE: &str = "ceph_csi_instance";

/// The prefix of images, as ceph-csi has it where nobody says otherwise.
pub(crate) const PREFIX: &str = "csi-vol-";

/// The keys, and what they are for.
pub(crate) const KEYS: [(&str, &str); 3] = [
    (
        NAMESPACES,
        "namespaces of clusters, where a storage class names none, and for ids of ceph-csi: CLUSTER=NAMESPACE,..., as `radosNamespace` in ceph-csi's config.json",
    ),
    (PREFIXES, "prefixes of images that ceph-csi made, separated by commas; `csi-vol-` if not given"),
    (INSTANCE, "`--instanceid` of ceph-csi, which is part of its journal's names; `default` if not given"),
];

/// What the operator configured.
pub(crate) struct Settings {
    namespaces: Vec<(String, String)>,
    /// Prefixes of ceph-csi's images, in the order in which they are looked for.
    pub(crate) prefixes: Vec<String>,
    /// What the directories of ceph-csi's journal end with.
    pub(crate) instance: String,
}

impl Settings {
    /// Reads them, or says which key is wrong.
    pub(crate) fn read(host: &Host<'_>) -> Result<Self, Refusal> {
        let wrong = |key: &str, what: &str| Refusal::precondition(format!("`{key}` in the driver's [config] has {what:?}, which is not what it should be"));
        let entries = |key: &str| -> Vec<String> {
            let value = host.config(key).unwrap_or_default();
            value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
        };
        let pair = |entry: String| match entry.split_once('=') {
            Some((cluster, namespace)) if is_name(cluster) && is_name(namespace) => Ok((cluster.to_owned(), namespace.to_owned())),
            _ => Err(wrong(NAMESPACES, &entry)),
        };
        let namespaces = entries(NAMESPACES).into_iter().map(pair).collect::<Result<_, _>>()?;
        let mut prefixes = entries(PREFIXES);
        if let Some(bad) = prefixes.iter().find(|prefix| checked(PREFIXES, prefix).is_err()) {
            return Err(wrong(PREFIXES, bad));
        }
        if prefixes.is_empty() {
            prefixes.push(PREFIX.to_owned());
        }
        let instance = host.config(INSTANCE).filter(|instance| !instance.is_empty()).unwrap_or_else(|| "default".to_owned());
        if checked(INSTANCE, &instance).is_err() {
            return Err(wrong(INSTANCE, &instance));
        }
        Ok(Self { namespaces, prefixes, instance })
    }

    /// The namespace of a cluster; empty is the default one.
    pub(crate) fn namespace(&self, cluster: &str) -> &str {
        self.namespaces.iter().find(|(of, _)| of == cluster).map_or("", |(_, namespace)| namespace.as_str())
    }
}
