//! `mapOptions` as users of ceph-csi write them, read into typed options; what is not understood is refused by name.

use crate::names::{is_name, shown};
use std::fmt::Display;
use std::str::FromStr;
use windlass_plugin_sdk::{MapOptions, MsMode, ReadFrom, Refusal};

/// The parameter, and the key of volume_context.
pub(crate) const KEY: &str = "mapOptions";

/// What there is, for people.
const KNOWN: &str = "ms_mode, read_from_replica, crush_location, osd_request_timeout, queue_depth, alloc_size";

/// Reads `queue_depth=64,ms_mode=secure` or `krbd:queue_depth=64;nbd:...`, where the kernel client's part counts.
pub(crate) fn parse(text: &str) -> Result<MapOptions, Refusal> {
    let mut options = MapOptions::default();
    for part in text.split(';').map(str::trim) {
        let ours = match part.split_once(':') {
            Some(("krbd", ours)) => ours,
            Some(("nbd", _)) => continue,
            _ => part,
        };
        for option in ours.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            set(&mut options, name.trim(), value.trim())?;
        }
    }
    Ok(options)
}

/// Sets the option of that name.
pub(crate) fn set(options: &mut MapOptions, name: &str, value: &str) -> Result<(), Refusal> {
    match name {
        "ms_mode" => options.ms_mode = Some(one_of(name, value, &MS_MODES)?),
        "read_from_replica" => options.read_from = Some(one_of(name, value, &READ_FROM)?),
        "crush_location" => options.crush_location = location(value)?,
        "osd_request_timeout" => options.osd_request_timeout = number(name, value, "0 to 86400 seconds", |seconds| seconds <= 86_400)?,
        "queue_depth" => options.queue_depth = number(name, value, "2 to 4096", |depth| (2..=4096).contains(&depth))?,
        "alloc_size" => {
            let is_size = |bytes: u32| bytes.is_power_of_two() && (512..=32 << 20).contains(&bytes);
            options.alloc_size = number(name, value, "a power of two between 512 and 33554432", is_size)?;
        }
        _ => return Err(Refusal::invalid(format!("`{KEY}` has {:?}, which is not known; known are: {KNOWN}", shown(name)))),
    }
    Ok(())
}

const MS_MODES: [(&str, MsMode); 5] =
    [("legacy", MsMode::Legacy), ("crc", MsMode::Crc), ("secure", MsMode::Secure), ("prefer-crc", MsMode::PreferCrc), ("prefer-secure", MsMode::PreferSecure)];

const READ_FROM: [(&str, ReadFrom); 3] = [("no", ReadFrom::Primary), ("balance", ReadFrom::Balance), ("localize", ReadFrom::Localize)];

fn one_of<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
    let names = choices.iter().map(|(choice, _)| *choice).collect::<Vec<_>>().join(", ");
    choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen).ok_or_else(|| wrong(name, value, &names))
}

fn number<T: FromStr<Err: Display> + Copy>(name: &str, value: &str, range: &str, is_good: impl Fn(T) -> bool) -> Result<T, Refusal> {
    value.parse().ok().filter(|number| is_good(*number)).ok_or_else(|| wrong(name, value, range))
}

/// `TYPE:NAME|TYPE:NAME`, as the kernel takes it.
fn location(value: &str) -> Result<Vec<(String, String)>, Refusal> {
    let level =
        |text: &str| text.split_once(':').filter(|(kind, place)| is_name(kind) && is_name(place)).map(|(kind, place)| (kind.to_owned(), place.to_owned()));
    let levels: Option<Vec<_>> = value.split('|').map(level).collect();
    levels.filter(|levels| levels.len() <= 8).ok_or_else(|| wrong("crush_location", value, "TYPE:NAME|TYPE:NAME, at most 8 of them"))
}

fn wrong(name: &str, value: &str, right: &str) -> Refusal {
    Refusal::invalid(format!("`{name}` in `{KEY}` is {:?}; possible: {right}", shown(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_of_the_ways_that_they_are_written() {
        let none = MapOptions::default;
        for (text, want) in [
            ("", none()),
            ("krbd:", none()),
            ("nbd:try-netlink,reattach-timeout=600", none()),
            ("queue_depth=64", MapOptions { queue_depth: 64, ..none() }),
            ("krbd:queue_depth=64,ms_mode=secure;nbd:try-netlink", MapOptions { queue_depth: 64, ms_mode: Some(MsMode::Secure), ..none() }),
            ("nbd:try-netlink ; krbd: ms_mode=prefer-crc", MapOptions { ms_mode: Some(MsMode::PreferCrc), ..none() }),
            ("osd_request_timeout=30,alloc_size=65536", MapOptions { osd_request_timeout: 30, alloc_size: 65536, ..none() }),
            (
                "read_from_replica=localize,crush_location=zone:a|host:node-1",
                MapOptions {
                    read_from: Some(ReadFrom::Localize),
                    crush_location: vec![("zone".into(), "a".into()), ("host".into(), "node-1".into())],
                    ..none()
                },
            ),
        ] {
            assert_eq!(parse(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (text, word) in [
            ("lock_on_read", "\"lock_on_read\", which is not known; known are: ms_mode"),
            ("krbd:secret=abc", "\"secret\""),
            ("name=admin", "\"name\""),
            ("noshare", "\"noshare\""),
            ("ms_mode", "`ms_mode` in `mapOptions` is \"\"; possible: legacy, crc"),
            ("ms_mode=fast", "\"fast\""),
            ("queue_depth=1", "2 to 4096"),
            ("queue_depth=99999999999", "2 to 4096"),
            ("alloc_size=65537", "a power of two"),
            ("osd_request_timeout=-1", "86400"),
            ("osd_request_timeout=86401", "86400"),
            ("read_from_replica=localise", "no, balance, localize"),
            ("crush_location=zone", "TYPE:NAME"),
            ("crush_location=zone:a b", "TYPE:NAME"),
            ("crush_location=a:1|b:2|c:3|d:4|e:5|f:6|g:7|h:8|i:9", "at most 8"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert_eq!(refusal.code(), "INVALID_ARGUMENT");
            assert!(refusal.words().contains(word), "{text:?}: {}", refusal.words());
        }
    }
}
