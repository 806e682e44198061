//! ListVolumes: pages of at most the size that was asked for, each volume once, also while others are deleted.

use super::row;
use harness::{Daemon, Volume, mount};
use std::collections::BTreeSet;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{DeleteVolumeRequest, ListVolumesRequest};

fn make(daemon: &Daemon, count: usize) -> BTreeSet<String> {
    let create = |n| Volume::create_request(&format!("page-{n}"), &mount(Mode::SingleNodeWriter), 1);
    (0..count).map(|n| daemon.create_volume(create(n)).unwrap().volume.unwrap().volume_id).collect()
}

/// Reads all pages; after each page `between` is told the ids so far.
fn read(daemon: &Daemon, size: i32, mut between: impl FnMut(&[String])) -> Vec<String> {
    let (mut token, mut seen) = (String::new(), Vec::new());
    for _ in 0..100 {
        let page = row("ListVolumes/paging").answers(daemon.list_volumes(ListVolumesRequest { max_entries: size, starting_token: token }));
        row("ListVolumes/paging").holds(size == 0 || page.entries.len() <= size as usize, "no more than max_entries");
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        between(&seen);
        token = page.next_token;
        if token.is_empty() {
            return seen;
        }
    }
    panic!("the pages do not end");
}

#[test]
fn plugin_every_page_size_shows_every_volume_once() {
    pages(&Daemon::start());
}

/// What pages show.
pub(super) fn pages(daemon: &Daemon) {
    assert_eq!(read(daemon, 0, |_| ()), Vec::<String>::new());
    let all = make(daemon, 7);
    for size in [0, 1, 2, 3, 6, 7, 8, i32::MAX] {
        let seen = read(daemon, size, |_| ());
        let is_whole = seen.len() == 7 && seen.into_iter().collect::<BTreeSet<_>>() == all;
        row("ListVolumes/paging").holds(is_whole, &format!("pages of {size} show each volume once"));
    }
}

#[test]
fn plugin_what_stays_is_seen_once_whatever_is_deleted_between_pages() {
    let daemon = Daemon::start();
    let all = make(&daemon, 12);
    let mut deleted = BTreeSet::new();
    let delete = |id: &String| daemon.delete_volume(DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() }).map(|_| ()).unwrap();
    let seen = read(&daemon, 2, |seen| {
        // The last one of the page, which the token may well name, and one that was not shown yet.
        let next = all.iter().find(|id| !seen.contains(id) && !deleted.contains(*id)).cloned();
        for id in seen.last().cloned().into_iter().chain(next) {
            delete(&id);
            deleted.insert(id);
        }
    });
    let stays: Vec<&String> = all.iter().filter(|id| !deleted.contains(*id)).collect();
    assert!(!stays.is_empty() && deleted.len() >= 6);
    for id in stays {
        assert_eq!(seen.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "none twice");
}

#[test]
fn plugin_a_token_of_nobody_is_aborted() {
    tokens(&Daemon::start());
}

/// Tokens of nobody.
pub(super) fn tokens(daemon: &Daemon) {
    make(daemon, 2);
    for token in ["x", "../..", "vol-", "a\u{0}b", &"t".repeat(129), &"t".repeat(10_000)] {
        let request = ListVolumesRequest { max_entries: 1, starting_token: token.to_owned() };
        row("ListVolumes/ABORTED").refuses(daemon.list_volumes(request), "starting_token");
    }
}
