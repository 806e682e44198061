//! One connected cluster: its pools, their room, and how every operation on it is counted and fails.

use crate::encoding::Malformed;
use crate::error::{CephError, Errno};
use crate::ffi::{Pool, Rados};
use crate::statistics::Statistics;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_plan::rbd::{PoolAt, PoolRoom, RbdName};

/// A connection. May be used from any number of threads at once; each call blocks until the cluster has answered or its time is up.
pub struct Cluster {
    pub(crate) rados: Arc<Rados>,
    fsid: String,
    is_lost: AtomicBool,
    statistics: Arc<Statistics>,
    /// Pools in which images were made through this connection.
    seen: Mutex<HashSet<PoolAt>>,
}

/// A pool that was found, and how to speak of what is in it.
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) at: &'a PoolAt,
    pub(crate) io: Pool,
}

impl Cluster {
    pub(crate) fn new(rados: Rados, statistics: Arc<Statistics>) -> Result<Self, CephError> {
        let fsid = rados.fsid().map_err(|errno| CephError::of("ask for", "the cluster's fsid".to_owned(), errno))?;
        Ok(Self { rados: Arc::new(rados), fsid, is_lost: AtomicBool::new(false), statistics, seen: Mutex::default() })
    }

    /// The cluster's fsid.
    pub fn fsid(&self) -> &str {
        &self.fsid
    }

    /// The address of this client, `ADDRESS:PORT/NONCE`, as it is seen among watchers and put on a blocklist.
    pub fn address(&self) -> Result<String, CephError> {
        self.rados.addresses().map_err(|errno| CephError::of("ask for", "this client's own address".to_owned(), errno))
    }

    /// Is this connection of no more use? It is replaced when it is asked for again.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }

    /// The name of the pool of that number.
    ///
    /// Errors: `NotFound`.
    pub fn pool_name(&self, id: u64) -> Result<String, CephError> {
        self.counted("pool-name", || {
            let found = self.pools_of_the_monitors()?.into_iter().find(|(number, _)| *number == id);
            found.map(|(_, name)| name).ok_or_else(|| CephError::NotFound { subject: format!("pool {id}") })
        })
    }

    /// Room in a pool: what can be stored, and what is, both counted once and not as often as they are replicated.
    pub fn room(&self, pool: &RbdName) -> Result<PoolRoom, CephError> {
        self.counted("room", || {
            let subject = || format!("the pool {pool}");
            let answer = self.command("look for room in", subject(), &serde_json::json!({ "prefix": "df", "format": "json" }))?;
            let malformed = || CephError::Malformed { subject: subject(), cause: Malformed };
            let pools = answer["pools"].as_array().ok_or_else(malformed)?;
            let Some(found) = pools.iter().find(|one| one["name"] == pool.as_str()) else {
                let is_known = self.pools_of_the_monitors()?.iter().any(|(_, known)| known == pool.as_str());
                return Err(if is_known { CephError::Uncounted { pool: pool.to_string() } } else { self.no_pool(pool) });
            };
            let number = |key: &str| found["stats"][key].as_u64().ok_or_else(malformed);
            Ok(PoolRoom { available: number("max_avail")?, used: number("stored")? })
        })
    }

    /// A monitor's command, and what it answers.
    pub(crate) fn command(&self, deed: &'static str, subject: String, command: &serde_json::Value) -> Result<serde_json::Value, CephError> {
        let answer = self.rados.mon_command(&command.to_string()).map_err(|(errno, words)| {
            if !words.is_empty() {
                tracing::debug!(%subject, %words, "a monitor refused a command");
            }
            CephError::of(deed, subject.clone(), errno)
        })?;
        if answer.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|_| CephError::Malformed { subject, cause: Malformed })
    }

    /// The pools as the monitors know them: numbers and names.
    fn pools_of_the_monitors(&self) -> Result<Vec<(u64, String)>, CephError> {
        let answer = self.command("list", "the pools".to_owned(), &serde_json::json!({ "prefix": "osd lspools", "format": "json" }))?;
        let pool = |one: &serde_json::Value| Some((one["poolnum"].as_u64()?, one["poolname"].as_str()?.to_owned()));
        let pools = answer.as_array().and_then(|pools| pools.iter().map(pool).collect());
        pools.ok_or_else(|| CephError::Malformed { subject: "the list of pools".to_owned(), cause: Malformed })
    }

    /// Does something under its name in the statistics, and takes note of a connection that is lost by it.
    pub(crate) fn counted<T>(&self, verb: &'static str, work: impl FnOnce() -> Result<T, CephError>) -> Result<T, CephError> {
        let result = self.statistics.counted(verb, work);
        if result.as_ref().is_err_and(CephError::is_lost) {
            self.is_lost.store(true, Ordering::SeqCst);
        }
        result
    }

    /// Finds a pool.
    pub(crate) fn place<'a>(&'a self, at: &'a PoolAt) -> Result<Place<'a>, CephError> {
        // librados waits for a pool that it does not know, for ever if the monitors are silent; a command to them has a limit.
        let is_known = self.rados.pools().is_ok_and(|pools| pools.iter().any(|pool| pool == at.pool.as_str()));
        if !is_known && !self.pools_of_the_monitors()?.iter().any(|(_, pool)| pool == at.pool.as_str()) {
            return Err(self.no_pool(&at.pool));
        }
        let found = self.rados.pool(at.pool.as_str(), at.namespace.as_ref().map(RbdName::as_str));
        let io = found.map_err(|errno| match errno {
            Errno(libc::ENOENT) => self.no_pool(&at.pool),
            errno => CephError::of("open", format!("the pool {}", at.pool), errno),
        })?;
        Ok(Place { cluster: self, at, io })
    }

    /// Is this the first that is made there through this connection?
    pub(crate) fn is_first_in(&self, at: &PoolAt) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        !seen.contains(at) && seen.insert(at.clone())
    }

    pub(crate) fn no_pool(&self, pool: &RbdName) -> CephError {
        let mut known = self.rados.pools().unwrap_or_default();
        known.retain(|name| !name.starts_with('.') && name != "device_health_metrics");
        CephError::NoPool { pool: pool.to_string(), known }
    }
}

impl Place<'_> {
    /// How an image is called in a sentence.
    pub(crate) fn image(&self, name: &RbdName) -> String {
        format!("the image {}/{name}", self.at)
    }

    /// What to make of an errno.
    pub(crate) fn failed(&self, deed: &'static str, name: &RbdName) -> impl Fn(Errno) -> CephError + use<> {
        let subject = self.image(name);
        move |errno| CephError::of(deed, subject.clone(), errno)
    }

    /// What to make of a description that cannot be read.
    pub(crate) fn malformed(&self, name: &RbdName) -> impl Fn(Malformed) -> CephError + use<> {
        let subject = self.image(name);
        move |cause| CephError::Malformed { subject: subject.clone(), cause }
    }

    pub(crate) fn not_found(&self, name: &RbdName) -> CephError {
        CephError::NotFound { subject: self.image(name) }
    }
}
