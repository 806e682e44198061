//! The advisory lock on an image's header, by the object class `lock`: who holds it, taking it, breaking it.

use crate::encoding::{Decoder, Encoder, Malformed, ip_of};
use crate::error::Errno;
use crate::ffi::{Exec, Pool};
use std::net::IpAddr;
use std::time::Duration;
use windlass_plan::rbd::{Hold, Holder};

/// The lock's name on the header.
pub(crate) const OURS: &str = "windlass";
/// The lock that librbd and the kernel client take with the feature exclusive-lock.
pub(crate) const THEIRS: &str = "rbd_lock";

/// The lock of who makes an image independent.
pub(crate) const FLATTEN: &str = "windlass.flatten";

/// `CEPH_ENTITY_TYPE_CLIENT`.
const CLIENT: u8 = 8;

/// How the lock is held: `ClsLockType`, and a tag that keeps kinds of sharers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    kind: u8,
    tag: &'static str,
}

impl Form {
    pub(crate) fn of(hold: Hold) -> Self {
        match hold {
            Hold::Writer => Self { kind: 1, tag: "" },
            Hold::Reader => Self { kind: 2, tag: "readers" },
            Hold::SharedWriter => Self { kind: 2, tag: "writers" },
        }
    }

    pub(crate) fn is_shared(self) -> bool {
        self.kind == 2
    }
}

/// One who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locker {
    /// The number of the client that took it.
    pub(crate) client: i64,
    /// Of ours, the node's name.
    pub(crate) cookie: String,
    /// Of the client, as monitors take it.
    pub(crate) address: String,
    /// Of ours, the node's addresses, separated by spaces.
    pub(crate) description: String,
}

impl Locker {
    /// The addresses by which the node that holds ours talks to clusters.
    pub(crate) fn node_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.description.split(' ').filter_map(|one| one.parse().ok())
    }

    /// The host on which the client runs.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        ip_of(&self.address)
    }
}

/// A lock as it is; nobody holds it where there are no lockers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) lockers: Vec<Locker>,
    kind: u8,
    tag: String,
}

impl Lock {
    /// Is it held in that form?
    pub(crate) fn is(&self, form: Form) -> bool {
        self.kind == form.kind && self.tag == form.tag
    }
}

/// What `get_info` of a lock is asked with.
pub(crate) fn question(name: &str) -> Vec<u8> {
    Encoder::default().versioned(Encoder::default().text(name)).bytes()
}

/// Asks who holds a lock.
pub(crate) fn info(question: &[u8]) -> Exec<'_> {
    lock(c"get_info", question)
}

/// Reads the answer to [`info`].
pub(crate) fn read(answer: &[u8]) -> Result<Lock, Malformed> {
    let mut inside = Decoder::of(answer).versioned()?;
    let lockers = (0..inside.u32()?).map(|_| {
        let mut id = inside.versioned()?;
        let (_kind, client, cookie) = (id.u8()?, id.i64()?, id.text()?);
        let mut about = inside.versioned()?;
        let _expires = (about.u32()?, about.u32()?);
        Ok(Locker { client, cookie, address: about.address()?, description: about.text()? })
    });
    let lockers = lockers.collect::<Result<_, _>>()?;
    Ok(Lock { lockers, kind: inside.u8()?, tag: inside.text()? })
}

/// Takes our lock for a node: 1 operation. EBUSY where somebody else has it in a form that does not go with this one.
pub(crate) fn take(pool: &Pool, header: &str, form: Form, holder: &Holder) -> Result<(), Errno> {
    let addresses: Vec<String> = holder.addresses.iter().map(ToString::to_string).collect();
    let inside = Encoder::default().text(OURS).u8(form.kind).text(holder.node.as_str()).text(form.tag).text(&addresses.join(" "));
    // It never expires by itself, and is not renewed.
    let input = Encoder::default().versioned(inside.u32(0).u32(0).u8(0)).bytes();
    match pool.exec(header, &lock(c"lock", &input)) {
        // By this very client, which asked twice at once.
        Err(Errno(libc::EEXIST)) => Ok(()),
        taken => taken,
    }
}

/// Takes or renews the lock of who makes an image independent: 1 operation. It expires by itself. EBUSY where another client has it.
pub(crate) fn lease(pool: &Pool, header: &str, lasts: Duration) -> Result<(), Errno> {
    const EXCLUSIVE: u8 = 1;
    const MAY_RENEW: u8 = 1;
    let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX);
    let inside = Encoder::default().text(FLATTEN).u8(EXCLUSIVE).text("").text("").text("");
    let input = Encoder::default().versioned(inside.u32(seconds).u32(0).u8(MAY_RENEW)).bytes();
    pool.exec(header, &lock(c"lock", &input))
}

/// Ends the lease of this client, which otherwise ends by itself.
pub(crate) fn end_lease(pool: &Pool, header: &str, instance: u64) {
    let own = Locker { client: instance.cast_signed(), cookie: String::new(), address: String::new(), description: String::new() };
    if let Err(errno) = break_off(pool, header, FLATTEN, &own) {
        tracing::debug!(%errno, header, "a lease ends by itself");
    }
}

/// Takes a lock away from one who holds it: 1 operation. Who does not hold it any more is as good.
pub(crate) fn break_off(pool: &Pool, header: &str, name: &str, locker: &Locker) -> Result<(), Errno> {
    let inside = Encoder::default().text(name).u8(CLIENT).u64(locker.client.cast_unsigned()).text(&locker.cookie);
    let input = Encoder::default().versioned(inside).bytes();
    match pool.exec(header, &lock(c"break_lock", &input)) {
        Err(Errno(libc::ENOENT)) => Ok(()),
        broken => broken,
    }
}

fn lock<'a>(method: &'static std::ffi::CStr, input: &'a [u8]) -> Exec<'a> {
    Exec { class: c"lock", method, input }
}
