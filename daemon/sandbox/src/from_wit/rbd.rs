//! Words of Ceph RBD from the WIT: names become [`RbdName`]s here, or are refused with their field and the rule.

use super::{Malformed, context};
use crate::bindings::exports::windlass::plugin::node;
use crate::bindings::windlass::plugin::{rbd, types as wit};
use crate::text;
use std::net::IpAddr;
use windlass_plan::attach::RbdSource;
use windlass_plan::rbd::{Credentials, Feature, Hold, Holder, ImageAt, ImageWish, IoLimits, MapOptions, MsMode, PoolAt, RbdName, ReadFrom, Striping};

/// The name in `field`.
pub(crate) fn name(field: &'static str, name: &str) -> Result<RbdName, Malformed> {
    RbdName::parse(name).map_err(|problem| Malformed::Name { field, name: text::line(name, 100), problem })
}

/// A cluster, and a pool of it. The empty namespace is the default one.
pub(crate) fn pool(said: &wit::RbdPool) -> Result<(RbdName, PoolAt), Malformed> {
    let namespace = if said.namespace.is_empty() { None } else { Some(name("pool.namespace", &said.namespace)?) };
    Ok((name("pool.cluster", &said.cluster)?, PoolAt { pool: name("pool.pool", &said.pool)?, namespace }))
}

pub(crate) fn credentials(said: wit::Credentials) -> Credentials {
    Credentials { user: said.user, key: said.key }
}

pub(crate) fn source(said: node::RbdSource) -> Result<RbdSource, Malformed> {
    let (cluster, at) = pool(&said.pool)?;
    let image = name("image", &said.image)?;
    Ok(RbdSource { at: ImageAt { cluster, at, image }, credentials: credentials(said.credentials), options: options(said.options)? })
}

fn options(said: node::MapOptions) -> Result<MapOptions, Malformed> {
    if !said.extras.is_empty() {
        return Err(Malformed::Extras { of: "`options`" });
    }
    let ms_mode = said.ms_mode.map(|mode| match mode {
        node::MsMode::Legacy => MsMode::Legacy,
        node::MsMode::Crc => MsMode::Crc,
        node::MsMode::Secure => MsMode::Secure,
        node::MsMode::PreferCrc => MsMode::PreferCrc,
        node::MsMode::PreferSecure => MsMode::PreferSecure,
    });
    let read_from = said.read_from.map(|from| match from {
        node::ReadFrom::Primary => ReadFrom::Primary,
        node::ReadFrom::Balance => ReadFrom::Balance,
        node::ReadFrom::Localize => ReadFrom::Localize,
    });
    let level = |(kind, place): (String, String)| Ok((name("crush-location", &kind)?, name("crush-location", &place)?));
    Ok(MapOptions {
        ms_mode,
        read_from,
        crush_location: said.crush_location.into_iter().map(level).collect::<Result<_, Malformed>>()?,
        osd_request_timeout: said.osd_request_timeout,
        queue_depth: said.queue_depth,
        alloc_size: said.alloc_size,
        limits: limits(said.limits),
    })
}

fn limits(said: node::IoLimits) -> IoLimits {
    let node::IoLimits { read_iops, write_iops, read_rate, write_rate } = said;
    IoLimits { read_iops, write_iops, read_rate, write_rate }
}

pub(crate) fn wish(said: rbd::ImageWish) -> Result<ImageWish, Malformed> {
    Ok(ImageWish {
        size: said.size,
        features: Feature::ALL.into_iter().filter(|feature| said.features.contains(flag(*feature))).collect(),
        object_size: said.object_size,
        striping: said.striping.map(|striping| Striping { unit: striping.unit, count: striping.count }),
        data_pool: said.data_pool.as_deref().map(|pool| name("wish.data-pool", pool)).transpose()?,
        metadata: context(said.metadata, "`wish.metadata`")?,
    })
}

/// The WIT's flag for a feature.
pub(crate) fn flag(feature: Feature) -> rbd::Features {
    match feature {
        Feature::Layering => rbd::Features::LAYERING,
        Feature::ExclusiveLock => rbd::Features::EXCLUSIVE_LOCK,
        Feature::ObjectMap => rbd::Features::OBJECT_MAP,
        Feature::FastDiff => rbd::Features::FAST_DIFF,
        Feature::DeepFlatten => rbd::Features::DEEP_FLATTEN,
    }
}

pub(crate) fn hold(said: rbd::Hold) -> Hold {
    match said {
        rbd::Hold::Writer => Hold::Writer,
        rbd::Hold::Reader => Hold::Reader,
        rbd::Hold::SharedWriter => Hold::SharedWriter,
    }
}

pub(crate) fn holder(said: &rbd::Holder) -> Result<Holder, Malformed> {
    let address = |text: &String| text.parse::<IpAddr>().map_err(|_| Malformed::Address { address: text::line(text, 100) });
    Ok(Holder { node: name("holder.node", &said.node)?, addresses: said.addresses.iter().map(address).collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cluster: &str, pool: &str, namespace: &str) -> wit::RbdPool {
        wit::RbdPool { cluster: cluster.into(), pool: pool.into(), namespace: namespace.into() }
    }

    #[test]
    fn a_bad_name_is_refused_with_its_field_and_the_rule() {
        for (said, field) in [(at("", "p", ""), "`pool.cluster`"), (at("c", "a b", ""), "`pool.pool`"), (at("c", "p", "a/b"), "`pool.namespace`")] {
            let words = pool(&said).unwrap_err().to_string();
            assert!(words.contains(field) && words.contains("1 to 96 letters"), "{words}");
        }
        assert_eq!(pool(&at("c", "p", "")).unwrap().1.namespace, None);
        assert_eq!(pool(&at("c", "p", "n")).unwrap().1.to_string(), "p/n");
        let holder = |node: &str, address: &str| holder(&rbd::Holder { node: node.into(), addresses: vec![address.into()] });
        assert!(holder("node 1", "10.0.0.1").unwrap_err().to_string().contains("`holder.node`"));
        assert!(holder("node-1", "10.0.0.1:6789").unwrap_err().to_string().contains("`holder.addresses`"));
        assert_eq!(holder("node-1", "fe80::1").unwrap().addresses, ["fe80::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_source_is_read_whole_and_extras_are_refused() {
        let said = |extras: Vec<(String, String)>| node::RbdSource {
            pool: at("c", "p", ""),
            image: "i".into(),
            credentials: wit::Credentials { user: "u".into(), key: "k".into() },
            options: node::MapOptions {
                ms_mode: Some(node::MsMode::PreferSecure),
                read_from: Some(node::ReadFrom::Localize),
                crush_location: vec![("zone".into(), "a".into())],
                osd_request_timeout: 1,
                queue_depth: 2,
                alloc_size: 4096,
                limits: node::IoLimits { read_iops: 0, write_iops: 0, read_rate: 0, write_rate: 0 },
                extras,
            },
        };
        let read = source(said(vec![])).unwrap();
        assert_eq!((read.at.to_string(), read.credentials.key.as_str()), ("rbd:c/p//i".to_owned(), "k"));
        assert_eq!((read.options.ms_mode, read.options.read_from, read.options.alloc_size), (Some(MsMode::PreferSecure), Some(ReadFrom::Localize), 4096));
        assert_eq!(source(said(vec![("a".into(), "b".into())])), Err(Malformed::Extras { of: "`options`" }));
    }
}
