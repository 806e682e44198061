//! Connections to clusters: one for each set of monitors, user and key, made by the first who needs it and shared by all.

use crate::cluster::Cluster;
use crate::error::CephError;
use crate::ffi;
use crate::statistics::Statistics;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::rbd::RbdName;

/// Connections held at once. Each has threads and sockets of its own.
const MOST: usize = 64;

/// A user's key. Neither `Debug` nor `Serialize` (law 10); librados is the only one who is told.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterKey(String);

impl ClusterKey {
    /// Takes the key in base64, as `ceph auth print-key` prints it.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where a cluster is, and as whom to talk to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterAccess {
    /// Addresses of monitors, as `mon_host` takes them: `10.0.0.1`, `10.0.0.1:6789`, `[v2:10.0.0.1:3300,v1:10.0.0.1:6789]`.
    pub monitors: Vec<String>,
    /// The user without `client.`.
    pub user: RbdName,
    /// Its key.
    pub key: ClusterKey,
}

/// How long a cluster may take to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One operation of an OSD (`rados_osd_op_timeout`).
    pub osd: Duration,
    /// One command of a monitor (`rados_mon_op_timeout`).
    pub monitor: Duration,
    /// To connect (`client_mount_timeout`).
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { osd: Duration::from_secs(25), monitor: Duration::from_secs(25), connect: Duration::from_secs(20) }
    }
}

/// The connections of a process.
pub struct Clusters {
    limits: Limits,
    slots: Mutex<HashMap<ClusterAccess, Arc<Slot>>>,
    statistics: Arc<Statistics>,
}

/// A place for one connection. Whoever makes it holds `state`; the others wait there.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Attempts that ended.
    attempts: AtomicU64,
}

#[derive(Default)]
struct State {
    cluster: Option<Arc<Cluster>>,
    /// How the last attempt failed.
    failure: Option<CephError>,
    used: Option<Instant>,
}

impl Clusters {
    /// Nothing is loaded or connected yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, slots: Mutex::default(), statistics: Arc::default() }
    }

    /// The connection for `access`: the one there is, or a new one. Those who ask while it is made wait for it and get the same, its
    /// failure too; a failure is not remembered beyond them.
    ///
    /// Errors: `Load`, `Setup`, `Unauthenticated`, `Unreachable`.
    pub fn connect(&self, access: &ClusterAccess) -> Result<Arc<Cluster>, CephError> {
        let slot = self.slot(access)?;
        let attempts = slot.attempts.load(Ordering::SeqCst);
        let mut state = lock(&slot.state);
        state.used = Some(Instant::now());
        let lost = state.cluster.take_if(|cluster| cluster.is_lost());
        if let Some(cluster) = &state.cluster {
            return Ok(cluster.clone());
        }
        if slot.attempts.load(Ordering::SeqCst) != attempts
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        let made = self.statistics.counted("connect", || self.make(access));
        slot.attempts.fetch_add(1, Ordering::SeqCst);
        match &made {
            Ok(cluster) => (state.cluster, state.failure) = (Some(cluster.clone()), None),
            Err(error) => state.failure = Some(error.clone()),
        }
        drop(state);
        // The end of a connection may take a while, and nobody waits for it.
        drop(lost);
        made
    }

    /// Ends connections that nobody has asked for within `idle` and nobody uses.
    pub fn end_idle(&self, idle: Duration) {
        let ended: Vec<_> = lock(&self.slots).extract_if(|_, slot| slot.is_idle(idle)).collect();
        drop(ended);
    }

    /// Connections that stand.
    pub fn count(&self) -> usize {
        lock(&self.slots).values().filter(|slot| slot.state.try_lock().is_ok_and(|state| state.cluster.is_some())).count()
    }

    /// What was asked of all clusters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn slot(&self, access: &ClusterAccess) -> Result<Arc<Slot>, CephError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(access) {
            return Ok(slot.clone());
        }
        let ended: Vec<_> = if slots.len() >= MOST { slots.extract_if(|_, slot| slot.is_idle(Duration::ZERO)).collect() } else { Vec::new() };
        let slot = (slots.len() < MOST).then(|| slots.entry(access.clone()).or_default().clone());
        drop(slots);
        drop(ended);
        slot.ok_or(CephError::TooMany { most: MOST })
    }

    /// Connects by options alone: no file is read, none is written, and the key goes to librados and nowhere else.
    fn make(&self, access: &ClusterAccess) -> Result<Arc<Cluster>, CephError> {
        let monitors = access.monitors.join(",");
        let seconds = |duration: Duration| duration.as_secs().max(1).to_string();
        let setup = |what| move |errno| CephError::Setup { what, errno };
        let rados = ffi::Rados::new(ffi::libraries()?, &format!("client.{}", access.user)).map_err(setup("the user's name"))?;
        if monitors.is_empty() {
            return Err(CephError::Invalid { what: "the cluster has no monitors: name at least one address".to_owned() });
        }
        rados.set(c"mon_host", &monitors).map_err(setup("the monitors' addresses"))?;
        rados.set(c"key", access.key.reveal()).map_err(setup("the user's key"))?;
        for (option, value) in [
            (c"keyring", ""),
            (c"log_file", ""),
            (c"log_to_file", "false"),
            (c"log_to_stderr", "false"),
            (c"err_to_stderr", "false"),
            (c"admin_socket", ""),
            // Images are only looked at and described here, never read or written.
            (c"rbd_cache", "false"),
            (c"rados_osd_op_timeout", &seconds(self.limits.osd)),
            (c"rados_mon_op_timeout", &seconds(self.limits.monitor)),
            (c"client_mount_timeout", &seconds(self.limits.connect)),
        ] {
            rados.set(option, value).map_err(setup("an option"))?;
        }
        rados.connect().map_err(|errno| match errno.0 {
            // EOPNOTSUPP: no way of authentication is left to try, since the key is none.
            libc::EACCES | libc::EPERM | libc::EINVAL | libc::EOPNOTSUPP => CephError::Unauthenticated { monitors: monitors.clone(), errno },
            _ => CephError::Unreachable { monitors: monitors.clone(), errno },
        })?;
        Cluster::new(rados, self.statistics.clone()).map(Arc::new)
    }
}

impl Slot {
    fn is_idle(&self, idle: Duration) -> bool {
        let Ok(state) = self.state.try_lock() else { return false };
        state.used.is_some_and(|used| used.elapsed() >= idle) && state.cluster.as_ref().is_none_or(|cluster| Arc::strong_count(cluster) == 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
