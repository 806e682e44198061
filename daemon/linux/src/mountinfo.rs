//! What `/proc/self/mountinfo` says: one line a mount, in the order in which the kernel keeps them.

use crate::mark;
use crate::sys::Number;
use std::fs::File;
use std::io::{self, Read};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The mount's id, as `mnt_id` in fdinfo.
    pub(crate) id: u64,
    /// The id of the mount that it is mounted on.
    pub(crate) parent: u64,
    /// The device number of the file system; its major is 0 where there is no device.
    pub(crate) number: Number,
    /// Which folder or file of the file system is the mount's root.
    pub(crate) root: String,
    /// Where it is mounted, absolute.
    pub(crate) point: String,
    /// Options of this mount alone.
    options: String,
    /// The file system's name.
    pub(crate) kind: String,
    /// Options of the file system.
    super_options: String,
}

/// All mounts of our mount namespace.
pub(crate) struct Table {
    lines: Vec<Line>,
}

/// What a mount shows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A file system on the device of this number.
    Filesystem(Number),
    /// The node of the device called so.
    Node(String),
}

impl Table {
    /// Reads the mounts as they are now.
    pub(crate) fn read() -> io::Result<Self> {
        // In large pieces: the kernel may show a change between one piece and the next.
        let mut text = Vec::with_capacity(64 << 10);
        File::open("/proc/self/mountinfo")?.read_to_end(&mut text)?;
        Ok(Self { lines: String::from_utf8_lossy(&text).lines().filter_map(parse).collect() })
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    /// The mount with this id.
    pub(crate) fn with_id(&self, id: u64) -> Option<&Line> {
        self.lines.iter().find(|line| line.id == id)
    }
}

impl Line {
    /// Which device the mount shows, if any. A node is known by its name in a devtmpfs (or in the tmpfs that containers have in
    /// its place): enough to refuse by; whoever removes looks at the node itself.
    pub(crate) fn shows(&self) -> Option<Shown> {
        if self.number.major != 0 {
            return Some(Shown::Filesystem(self.number));
        }
        let name = self.root.strip_suffix("//deleted").unwrap_or(&self.root).strip_prefix('/')?;
        let is_node = matches!(self.kind.as_str(), "devtmpfs" | "tmpfs") && mark::is_name(name);
        is_node.then(|| Shown::Node(name.to_owned()))
    }

    /// The mount refuses writes.
    pub(crate) fn is_read_only(&self) -> bool {
        has(&self.options, "ro")
    }

    /// The file system refuses writes: it was mounted so, or stopped writing after an error (which newer kernels show in words of
    /// their own).
    pub(crate) fn is_superblock_read_only(&self) -> bool {
        ["ro", "emergency_ro", "shutdown"].iter().any(|word| has(&self.super_options, word))
    }

    /// The SELinux label that the file system was mounted with (`context=`); it stands in quotes where it holds a comma.
    pub(crate) fn label(&self) -> Option<&str> {
        const KEY: &str = "context=";
        let begins = |at: &usize| *at == 0 || self.super_options.as_bytes()[at - 1] == b',';
        let at = self.super_options.match_indices(KEY).map(|(at, _)| at).find(begins)?;
        let label = &self.super_options[at + KEY.len()..];
        let (label, end) = label.strip_prefix('"').map_or((label, ','), |label| (label, '"'));
        label.split(end).next()
    }
}

/// A prefix and a number.
pub(crate) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn has(options: &str, word: &str) -> bool {
    options.split(',').any(|option| option == word)
}

fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let options = fields.next()?.to_owned();
    // Optional fields, of which there may be any number, end with a dash.
    fields.by_ref().find(|field| *field == "-")?;
    let kind = unescape(fields.next()?);
    let _source = fields.next()?;
    let super_options = fields.next().unwrap_or_default().to_owned();
    Some(Line { id, parent, number: Number { major: major.parse().ok()?, minor: minor.parse().ok()? }, root, point, options, kind, super_options })
}

/// The kernel writes blank, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| digits.iter().try_fold(0u32, |value, digit| (b'0'..=b'7').contains(digit).then(|| value * 8 + u32::from(digit - b'0'))));
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_optional_fields_it_has() {
        for optional in ["", "shared:7 ", "shared:7 master:1 propagate_from:2 ", "unbindable "] {
            let line = parse(&format!(r"36 35 7:3 / /mnt/a\040b\011c\134d rw,noatime {optional}- ext4 /dev/loop3 ro,errors=continue")).unwrap();
            assert_eq!((line.id, line.parent, line.number), (36, 35, Number { major: 7, minor: 3 }));
            assert_eq!(line.point, "/mnt/a b\tc\\d");
            assert_eq!((line.is_read_only(), line.is_superblock_read_only()), (false, true));
            assert_eq!(line.shows(), Some(Shown::Filesystem(Number { major: 7, minor: 3 })));
        }
    }

    #[test]
    fn what_a_mount_shows_of_a_device() {
        let shows = |number: &str, root: &str, kind: &str| parse(&format!("1 0 {number} {root} /x rw - {kind} none rw")).unwrap().shows();
        assert_eq!(shows("0:6", "/loop12", "devtmpfs"), Some(Shown::Node("loop12".into())));
        assert_eq!(shows("0:6", "/loop12//deleted", "devtmpfs"), Some(Shown::Node("loop12".into())));
        assert_eq!(shows("0:40", "/loop0", "tmpfs"), Some(Shown::Node("loop0".into())));
        assert_eq!(shows("0:6", "/rbd0", "devtmpfs"), Some(Shown::Node("rbd0".into())));
        assert_eq!(shows("252:16", "/", "ext4"), Some(Shown::Filesystem(Number { major: 252, minor: 16 })));
        for (number, root, kind) in [
            ("0:6", "/", "devtmpfs"),
            ("0:6", "/loop", "devtmpfs"),
            ("0:6", "/loop-control", "devtmpfs"),
            ("0:6", "/rbd0p1", "devtmpfs"),
            ("0:6", "/a/loop1", "tmpfs"),
        ] {
            assert_eq!(shows(number, root, kind), None, "{number} {root} {kind}");
        }
    }

    #[test]
    fn what_is_not_a_line_is_left_out() {
        for bad in ["", "1 2 3", "1 2 7:1 / /x rw shared:1 ext4 /dev/loop1 rw", "x 2 7:1 / /x rw - ext4 s rw", "1 2 71 / /x rw - ext4 s rw"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse("1 2 0:9 / /x rw - proc proc").is_some());
        assert_eq!(unescape(r"\04"), r"\04");
        assert_eq!(unescape(r"a\777b\"), r"a\777b\");
    }

    #[test]
    fn a_read_only_word_is_a_whole_word() {
        let line = |options: &str| parse(&format!("1 0 7:1 / /x rw - ext4 s {options}")).unwrap().is_superblock_read_only();
        assert!(line("rw,emergency_ro"));
        assert!(!line("rw,errors=remount-ro"));
    }

    #[test]
    fn a_label_is_read_to_the_last_comma() {
        let label = |options: &str| parse(&format!("1 0 7:1 / /x rw - ext4 s {options}")).unwrap().label().map(str::to_owned);
        let plain = "system_u:object_r:container_file_t:s0";
        assert_eq!(label(&format!("rw,context={plain},errors=remount-ro")).as_deref(), Some(plain));
        assert_eq!(label(&format!("rw,context=\"{plain}:c1,c2\",errors=remount-ro")), Some(format!("{plain}:c1,c2")));
        for without in ["rw,seclabel", "rw,fscontext=a,rootcontext=b,defcontext=c", ""] {
            assert_eq!(label(without), None, "{without}");
        }
    }
}
