//! A cluster's folder: its configuration, its keys, and where each daemon keeps what it has.

use crate::network::Network;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was written, and what callers need of it.
pub(super) struct Conf {
    pub(super) folder: PathBuf,
    pub(super) address: Ipv4Addr,
    pub(super) fsid: String,
    pub(super) admin_key: String,
}

impl Conf {
    /// Writes `ceph.conf` and the keyrings, and makes the daemons' folders.
    pub(super) fn write(network: &Network, folder: &Path, address: Ipv4Addr, osds: usize) -> Result<Self> {
        ensure!((1..=3).contains(&osds), "one to three OSDs");
        std::fs::create_dir(folder)?;
        let fsid = uuid()?;
        let mut keyring = String::new();
        let mut admin_key = String::new();
        let all = "caps mon = \"allow *\"\n\tcaps osd = \"allow *\"\n\tcaps mds = \"allow *\"\n\tcaps mgr = \"allow *\"";
        let mut entities = vec![
            ("mon.".to_owned(), "mon", "caps mon = \"allow *\"".to_owned()),
            ("client.admin".to_owned(), "admin", all.to_owned()),
            ("mgr.x".to_owned(), "mgr.x", "caps mon = \"allow profile mgr\"\n\tcaps osd = \"allow *\"".to_owned()),
        ];
        for name in ["osd.0", "osd.1", "osd.2"].iter().take(osds) {
            entities.push((
                (*name).to_owned(),
                name,
                "caps mon = \"allow profile osd\"\n\tcaps mgr = \"allow profile osd\"\n\tcaps osd = \"allow *\"".to_owned(),
            ));
        }
        for (entity, file, caps) in entities {
            let key = key(network)?;
            let section = format!("[{entity}]\n\tkey = {key}\n\t{caps}\n");
            keyring += &section;
            std::fs::write(folder.join(format!("{file}.keyring")), &section)?;
            if entity == "client.admin" {
                admin_key = key;
            }
        }
        // The monitor is born with all of them.
        std::fs::write(folder.join("keyring"), keyring)?;
        // The monitor makes its own, and takes one that holds anything for a monitor that was made before.
        for daemon in ["mgr.x", "osd.0", "osd.1", "osd.2"] {
            std::fs::create_dir(folder.join(daemon))?;
        }
        std::fs::write(folder.join("ceph.conf"), text(folder, address, &fsid)?)?;
        Ok(Self { folder: folder.to_owned(), address, fsid, admin_key })
    }

    /// The monitor's two addresses, as a monitor map has them.
    pub(super) fn monitor_addresses(&self) -> String {
        addresses(self.address)
    }

    /// An OSD's own id: the cluster's with another end, so that it need not be kept.
    pub(super) fn osd_uuid(&self, number: usize) -> String {
        format!("{}{number:04x}", &self.fsid[..32])
    }
}

fn addresses(address: Ipv4Addr) -> String {
    format!("[v2:{address}:3300,v1:{address}:6789]")
}

fn text(folder: &Path, address: Ipv4Addr, fsid: &str) -> Result<String> {
    let folder = folder.display();
    let mut text = String::from("[global]\n");
    let global = [
        ("fsid", fsid.to_owned()),
        ("mon_host", addresses(address)),
        // Not its network: another cluster may have an address in it.
        ("public_addr", address.to_string()),
        ("auth_cluster_required", "cephx".to_owned()),
        ("auth_service_required", "cephx".to_owned()),
        ("auth_client_required", "cephx".to_owned()),
        ("run_dir", folder.to_string()),
        ("log_file", format!("{folder}/$type.$id.log")),
        ("admin_socket", format!("{folder}/$type.$id.asok")),
        ("pid_file", String::new()),
        ("crash_dir", folder.to_string()),
        ("osd_pool_default_size", "1".to_owned()),
        ("osd_pool_default_min_size", "1".to_owned()),
        ("osd_pool_default_pg_autoscale_mode", "off".to_owned()),
        ("osd_crush_chooseleaf_type", "0".to_owned()),
        // Changes of maps are proposed at once instead of after a second: a start has a dozen of them, one after the other.
        ("paxos_propose_interval", "0.05".to_owned()),
        ("paxos_min_wait", "0.01".to_owned()),
    ];
    let sections: [(&str, Vec<(&str, String)>); 5] = [
        (
            "mon",
            vec![
                ("mon_data", format!("{folder}/mon.$id")),
                ("keyring", format!("{folder}/mon.keyring")),
                ("mon_allow_pool_size_one", "true".to_owned()),
                ("mon_allow_pool_delete", "true".to_owned()),
                ("auth_allow_insecure_global_id_reclaim", "false".to_owned()),
                ("mon_data_avail_crit", "0".to_owned()),
                ("mon_data_avail_warn", "0".to_owned()),
            ],
        ),
        ("mgr", vec![("mgr_data", format!("{folder}/mgr.$id")), ("keyring", format!("{folder}/mgr.x.keyring")), ("mgr_initial_modules", String::new())]),
        (
            "osd",
            vec![
                ("osd_data", format!("{folder}/osd.$id")),
                ("keyring", format!("{folder}/osd.$id.keyring")),
                ("osd_objectstore", "memstore".to_owned()),
                ("memstore_device_bytes", (4_u64 << 30).to_string()),
                // Only then does an OSD that is stopped write down what it has in memory.
                ("osd_fast_shutdown", "false".to_owned()),
                ("osd_heartbeat_grace", "6".to_owned()),
            ],
        ),
        ("client", vec![("keyring", format!("{folder}/admin.keyring")), ("admin_socket", String::new()), ("log_file", String::new())]),
        ("client.admin", vec![("keyring", format!("{folder}/admin.keyring"))]),
    ];
    for (name, value) in global {
        writeln!(text, "{name} = {value}")?;
    }
    for (section, values) in sections {
        writeln!(text, "[{section}]")?;
        for (name, value) in values {
            writeln!(text, "{name} = {value}")?;
        }
    }
    Ok(text)
}

fn uuid() -> Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a random id")?;
    Ok(uuid.trim().to_owned())
}

fn key(network: &Network) -> Result<String> {
    let mut command = Command::new("ceph-authtool");
    command.arg("--gen-print-key");
    let output = network.run(command)?;
    ensure!(output.status.success(), "ceph-authtool: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
