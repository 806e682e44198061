//! What can be wrong with a component and its signature, one artefact each.

use super::vendor::{Vendor, digest, local, of};
use super::{COMPONENT, SIGNATURE, crafted};
use harness::Daemon;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// Something that must not serve.
pub(super) struct Artefact {
    pub(super) what: String,
    /// What the reason says.
    pub(super) because: &'static str,
    /// The digest of what must not even be compiled.
    pub(super) never_compiled: Option<String>,
    /// Puts it in the place of the component and its signature, which are good.
    pub(super) place: Box<dyn Fn(&Daemon)>,
}

/// Files with these contents, the signature one that does not let the component pass.
fn unsigned(what: impl Into<String>, because: &'static str, component: &[u8], signature: impl Into<Vec<u8>>) -> Artefact {
    let (component, signature, never_compiled) = (component.to_vec(), signature.into(), Some(digest(component)));
    let place = move |daemon: &Daemon| {
        daemon.rename_in(&signature, SIGNATURE);
        daemon.rename_in(&component, COMPONENT);
    };
    Artefact { what: what.into(), because, never_compiled, place: Box::new(place) }
}

/// A component that the vendor signed, and that is bad all the same.
fn signed(vendor: &Vendor, what: &str, because: &'static str, component: &[u8]) -> Artefact {
    Artefact { never_compiled: None, ..unsigned(what, because, component, vendor.sign(component)) }
}

/// Something that is no plain file, made beside and renamed in.
fn odd(what: &str, because: &'static str, place: &'static str, make: fn(&Path)) -> Artefact {
    let make = move |daemon: &Daemon| {
        let beside = daemon.path("plugins/beside");
        make(&beside);
        std::fs::rename(&beside, daemon.path(place)).unwrap();
    };
    Artefact { what: format!("{what} as {place}"), because, never_compiled: None, place: Box::new(make) }
}

pub(super) fn all(vendor: &Vendor) -> Vec<Artefact> {
    let mut all = not_signed(vendor);
    all.extend(damaged(vendor));
    all.extend(no_plain_files());
    all.extend(signed_and_bad(vendor));
    all
}

/// Whole, and not signed as it has to be.
fn not_signed(vendor: &Vendor) -> Vec<Artefact> {
    let new = local("0.6.0");
    let good = vendor.sign(&new);
    let (own_digest, bytes) = (digest(&new), new.clone());
    let no_signature = move |daemon: &Daemon| {
        std::fs::remove_file(daemon.path(SIGNATURE)).unwrap();
        daemon.rename_in(&bytes, COMPONENT);
    };
    let too_large = [&new[..], &vec![0; 64 << 20]].concat();
    let renamed = good.replacen(&good[..60], "untrusted comment: signature", 1);
    vec![
        Artefact { what: "no signature".into(), because: "is not signed", never_compiled: Some(own_digest), place: Box::new(no_signature) },
        unsigned("a stranger's key", "was made with the key", &new, Vendor::new().sign(&new)),
        unsigned("another file's signature", "does not fit", &new, vendor.sign(b"another file")),
        unsigned("the signature of the version that serves", "does not fit", &new, vendor.sign(&local("0.5.0"))),
        unsigned("a stranger's signature under the vendor's name", "does not fit", &new, forged(&Vendor::new().sign(&new), &good)),
        unsigned("another trusted comment", "does not fit", &new, good.replace("file:component.wasm", "file:something.else")),
        unsigned("a component of more than 64 MiB", "67108864 are allowed", &too_large, good.as_str()),
        unsigned("an empty signature", "is not a signature of minisign", &new, ""),
        unsigned("a signature without its first line", "is not a signature of minisign", &new, &renamed[renamed.find('\n').unwrap() + 1..]),
        unsigned("a huge signature", "4096 are allowed", &new, format!("{good}{}", "#".repeat(8192))),
        unsigned("a signature that is no text", "is not a signature of minisign", &new, [0xff; 300]),
    ]
}

/// A signature with the id of another's key in its second line.
fn forged(theirs: &str, vendors: &str) -> String {
    let (their_lines, vendor_lines): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), vendors.lines().collect());
    // Ten bytes are algorithm and id: thirteen letters and a bit, so the fourteenth is the vendor's as well.
    let second = format!("{}{}", &vendor_lines[1][..14], &their_lines[1][14..]);
    format!("{}\n{second}\n{}\n{}\n", their_lines[0], their_lines[2], their_lines[3])
}

/// Cut off or with a bit that is another, at many places.
fn damaged(vendor: &Vendor) -> Vec<Artefact> {
    let new = local("0.6.0");
    let good = vendor.sign(&new);
    let mut all = Vec::new();
    for at in [0, 8, new.len() / 4, new.len() / 2, new.len() - 1] {
        all.push(unsigned(format!("a component cut at {at}"), "does not fit", &new[..at], good.as_str()));
    }
    for at in [0, 7, new.len() / 3, new.len() - 1] {
        let mut flipped = new.clone();
        flipped[at] ^= 0x10;
        all.push(unsigned(format!("a component with a bit flipped in byte {at}"), "does not fit", &flipped, good.as_str()));
    }
    let lines: Vec<&str> = good.lines().collect();
    let (second, third) = (lines[0].len() + 1, lines[0].len() + lines[1].len() + 2);
    let fourth = third + lines[2].len() + 1;
    for (line, at, because) in [
        ("algorithm", second + 1, "is not a signature of minisign"),
        ("key id", second + 6, "was made with the key"),
        ("signature", second + 60, "does not fit"),
        ("trusted comment", third + 20, "does not fit"),
        ("signature of the comment", fourth + 40, "does not fit"),
    ] {
        let mut flipped = good.clone().into_bytes();
        // One letter of base64 for another, or one of the comment.
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        all.push(unsigned(format!("a signature with another letter in the {line}"), because, &new, flipped));
    }
    for at in [second + 30, third, fourth + 10] {
        all.push(unsigned(format!("a signature cut at {at}"), "is not a signature of minisign", &new, &good[..at]));
    }
    all
}

fn no_plain_files() -> Vec<Artefact> {
    let mut all = Vec::new();
    for place in [COMPONENT, SIGNATURE] {
        all.push(odd("a FIFO", "is not a regular file", place, |path| mkfifo(path, Mode::S_IRUSR).unwrap()));
        all.push(odd("a device", "is not a regular file", place, |path| {
            mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
        }));
        all.push(odd("a link to a device", "is not a regular file", place, |path| symlink("/dev/zero", path).unwrap()));
        all.push(odd("a file of another user", "belongs to user 1234", place, |path| {
            std::fs::write(path, local("0.6.0")).unwrap();
            chown(path, Some(1234), None).unwrap();
        }));
        all.push(odd("a file that others can write", "is writable by others", place, |path| {
            std::fs::write(path, local("0.6.0")).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
        }));
    }
    all.push(odd("a link to nothing", "cannot be opened", COMPONENT, |path| symlink("nothing", path).unwrap()));
    all.push(odd("a link to a component without a signature", "does not fit", COMPONENT, |path| {
        let target = path.with_file_name("target.wasm");
        std::fs::write(&target, local("0.6.0")).unwrap();
        symlink(&target, path).unwrap();
    }));
    all.push(odd("a hard link to a component without a signature", "does not fit", COMPONENT, |path| {
        let target = path.with_file_name("target.wasm");
        std::fs::write(&target, local("0.6.0")).unwrap();
        std::fs::hard_link(&target, path).unwrap();
    }));
    all
}

/// A signature says who made it, and not that it is any good.
fn signed_and_bad(vendor: &Vendor) -> Vec<Artefact> {
    let native = std::fs::read("/bin/true").unwrap();
    let component = |name: &str| std::fs::read(harness::component(name)).unwrap();
    vec![
        signed(vendor, "an older version", "version 0.5.0 of the driver has served", &local("0.4.9")),
        signed(vendor, "a version that is none", "not like 1.2.3", &local("0.6.x")),
        signed(vendor, "another vendor's component", "by \"windlost.io\"", &of("windlost.io", "0.6.0")),
        signed(vendor, "fewer capabilities", "advertises", &component("local-shrunk")),
        signed(vendor, "another world", "windlass:plugin/http", &component("greedy")),
        signed(vendor, "a component with nothing in it", "windlass:plugin", b"\0asm\x0d\0\x01\0"),
        signed(vendor, "a core module", "component", b"\0asm\x01\0\0\0"),
        signed(vendor, "native code", "no WebAssembly", &native),
        signed(vendor, "one that was cut before it was signed", "ends in the middle", &local("0.6.0")[..60_000]),
        signed(vendor, "a trap in `describe`", "`describe` failed", &crafted::dummy(None)),
        signed(vendor, "a trap at its start", "did not prove itself", &crafted::dummy(Some((u32::MAX - 15, 16)))),
        signed(vendor, "48 MiB of data", "did not prove itself", &crafted::dummy(Some((0, 48 << 20)))),
    ]
}
