//! A driver that does whatever a sandbox must survive: the volume's id, or the name of a new one, says what.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};
use windlass_plugin_sdk::*;

struct Hostile;

impl NodeDriver for Hostile {
    fn describe() -> Description {
        Description::new("hostile.example", "0.0.1")
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        misbehave(host, &facts.volume)?;
        Ok(AttachPlan::file("volumes", &facts.volume).formatted_for(&facts.capability, FilesystemKind::Ext4))
    }
}

impl FileDriver for Hostile {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        match facts.name.as_str() {
            "effects" => loop {
                files.folder("volumes").stat("f")?;
            },
            "one-effect" => {
                files.folder("volumes").stat("f")?;
            }
            "long-name" => {
                files.folder("volumes").stat(&"n".repeat(1 << 20))?;
            }
            "foreign" => {
                files.folder("not granted").stat("f")?;
            }
            other => misbehave(host, other)?,
        }
        Err(Refusal::unsupported("this driver makes nothing"))
    }

    fn delete_volume(_: &Host<'_>, _: &Files<'_>, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn validate(_: &Host<'_>, _: &Files<'_>, _: &ValidateFacts) -> Result<Option<String>, Refusal> {
        Ok(Some("no".repeat(600 << 10)))
    }

    fn expand(_: &Host<'_>, _: &Files<'_>, _: &str, _: &CapacityRange) -> Result<Expanded, Refusal> {
        Err(Refusal::unsupported("no"))
    }
}

impl FileListing for Hostile {
    fn list_volumes(_: &Host<'_>, _: &Files<'_>, _: u32, _: &str) -> Result<Page, Refusal> {
        Err(Refusal::bad_token("never ours"))
    }
}

impl FileCapacity for Hostile {
    fn capacity(_: &Host<'_>, _: &Files<'_>, _: &CapacityFacts) -> Result<Room, Refusal> {
        Err(Refusal::unsupported("no"))
    }
}

fn misbehave(host: &Host<'_>, how: &str) -> Result<(), Refusal> {
    match how {
        "loop" => loop {
            std::hint::spin_loop();
        },
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        "trap" => panic!("boom at the wheel"),
        "recursion" => {
            std::hint::black_box(deeper(1));
        }
        "megabyte" => return Err(Refusal::invalid("x".repeat(1 << 20))),
        "control" => return Err(Refusal::invalid("one\ntwo\u{1b}[2J")),
        "storm" => loop {
            std::hint::black_box(host.config("key"));
        },
        "flood" => {
            for _ in 0..5000 {
                host.info(format!("{}\n\u{1b}[2J", "line ".repeat(1000)));
            }
        }
        "stderr" => {
            for number in 0..5000 {
                eprintln!("line {number} {}", "e".repeat(3000));
            }
        }
        "exit" => std::process::exit(0),
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "nap" => {
            let begun = Instant::now();
            std::thread::sleep(Duration::from_millis(30));
            return Err(Refusal::invalid(format!("{}", begun.elapsed().as_millis())));
        }
        "clock" => {
            let map: HashMap<u32, u32> = (0..20).map(|number| (number, number)).collect();
            let order: Vec<_> = map.keys().collect();
            let begun = Instant::now();
            return Err(Refusal::invalid(format!("{:?} {:?} {order:?} {}", SystemTime::now(), begun.elapsed(), RandomState::new().hash_one(1))));
        }
        "world" => {
            let file = std::fs::read("/etc/passwd").map_err(|error| error.to_string());
            let write = std::fs::write("/tmp/made", "x").map_err(|error| error.to_string());
            let folder = std::fs::read_dir("/").map(|_| ()).map_err(|error| error.to_string());
            let socket = std::net::TcpStream::connect("127.0.0.1:80").map(|_| ()).map_err(|error| error.to_string());
            let input = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string());
            let given = (std::env::args().count(), std::env::vars().count());
            return Err(Refusal::invalid(format!("{file:?} {write:?} {folder:?} {socket:?} {input:?} {given:?}")));
        }
        "files" => {
            return match bindings::files::windlass::plugin::files::stat("volumes", "f") {
                Ok(_) => Err(Refusal::invalid("a pure function had an effect")),
                Err(refusal) => Err(refusal),
            };
        }
        _ => {}
    }
    Ok(())
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 1]);
    if depth == u64::MAX { 0 } else { deeper(depth + 1) + frame[0] }
}

export_file_driver!(Hostile, listing, capacity);
