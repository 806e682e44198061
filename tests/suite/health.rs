//! How the daemon and its drivers are, for whoever only wants to know that: gRPC's health checking, /healthz and /readyz.

use harness::{AtEnd, DRIVER, Daemon, Setup, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::health::HealthCheckRequest;
use windlass_csi::health::health_check_response::ServingStatus;
use windlass_csi::health::health_client::HealthClient;

/// A daemon whose driver has no component yet, and which answers over HTTP.
fn without_component() -> (Daemon, SocketAddr) {
    let mut daemon = Daemon::unready(Setup { config: "http.listen = \"127.0.0.1:0\"\n".to_owned(), ..Setup::default() });
    daemon.stop();
    daemon.write_driver_of(DRIVER, "plugins/absent.wasm", "volumes", "");
    std::fs::remove_file(daemon.path("log")).unwrap();
    daemon.start_again();
    let address = eventually("the address in the log", || {
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("answering /healthz"))?.to_owned();
        line.split("address=").nth(1)?.trim().parse().ok()
    });
    (daemon, address)
}

/// The status line and the body of an answer.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "{request} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn plugin_health_is_told_over_http_and_ready_is_who_serves() {
    let (daemon, address) = without_component();
    let healthy = || assert_eq!(ask(address, "GET /healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    healthy();
    eventually("the refusal's reason", || ask(address, "GET /readyz").1.contains("absent.wasm").then_some(()));
    for path in ["/readyz".to_owned(), format!("/readyz/{DRIVER}")] {
        let (status, text) = ask(address, &format!("GET {path}"));
        assert!(status.contains("503") && text.starts_with(&format!("{DRIVER}: ")), "{status} {text}");
    }
    daemon.put_component("local", "plugins/absent.wasm");
    daemon.wait_ready();
    assert_eq!(ask(address, "GET /readyz"), ("HTTP/1.1 200 OK".to_owned(), format!("{DRIVER}: ok\n")));
    for (request, code) in [("GET /readyz/nobody", "404"), ("GET /", "404"), ("POST /healthz", "405"), ("DELETE /readyz", "405"), ("HEAD /healthz", "200")] {
        let (status, _) = ask(address, request);
        assert!(status.contains(code), "{request}: {status}");
    }

    // Those who say nothing, and those who do not stop.
    let silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    healthy();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = AtEnd(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _many: Vec<_> = (0..100).map(|_| TcpStream::connect(address)).collect();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        for _ in 0..20 {
            healthy();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut endless = TcpStream::connect(address).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let began = Instant::now();
    let line = format!("x: {}\r\n", "y".repeat(1000));
    let sent = endless.write_all(b"GET /healthz HTTP/1.1\r\n").and_then(|()| (0..100_000).try_for_each(|_| endless.write_all(line.as_bytes())));
    assert!(sent.is_err() && began.elapsed() < Duration::from_secs(10), "{sent:?} in {:?}", began.elapsed());
    healthy();
    let mut first = &silent[0];
    first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(first.read(&mut [0; 64]), Ok(0..)), "who says nothing is hung up on");
    healthy();
}

#[test]
fn plugin_health_is_told_over_grpc_and_to_those_who_watch() {
    let (daemon, _) = without_component();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = windlass_csi::client::connect(&daemon.socket()).await.unwrap();
        let mut client = HealthClient::new(channel);
        let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for service in ["", "csi.v1.Identity", "csi.v1.Controller", "csi.v1.Node"] {
            assert_eq!(client.check(ask(service)).await.unwrap().into_inner().status(), ServingStatus::NotServing, "{service}");
        }
        let refused = client.check(ask("csi.v1.GroupController")).await.unwrap_err();
        assert!(refused.code() == Code::NotFound && refused.message().contains("csi.v1.Node"), "{refused}");

        let mut watched = client.watch(ask("")).await.unwrap().into_inner();
        let mut unknown = client.watch(ask("nothing")).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        daemon.put_component("local", "plugins/absent.wasm");
        let changed = tokio::time::timeout(Duration::from_secs(20), watched.message()).await.expect("a change");
        assert_eq!(changed.unwrap().unwrap().status(), ServingStatus::Serving);
        assert_eq!(client.check(ask("csi.v1.Node")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    });
}

#[test]
fn plugin_a_node_is_checked_before_a_daemon_runs_on_it() {
    let daemon = Daemon::start();
    let file = daemon.path("windlass.toml").display().to_string();
    let check = || daemon.windlass(&["check", "--config", &file, "-o", "json"]);
    let found = |output: &std::process::Output, what: &str| -> String {
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let finding = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("{what}: {findings}")).clone();
        finding["found"].as_str().unwrap().to_owned()
    };
    let good = check();
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    for what in ["kernel", "configuration", "CAP_SYS_ADMIN", "programs", "loop devices", "state", "drivers"] {
        assert_eq!(found(&good, what), "ok", "{what}");
    }
    std::fs::write(&file, "rolls = []\n").unwrap();
    let bad = check();
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("configuration"));
    assert_eq!(found(&bad, "configuration"), "missing");
}

#[test]
fn plugin_a_driver_whose_process_keeps_failing_is_unhealthy_everywhere_until_it_is_better() {
    let daemon = Daemon::with(Setup { config: "http.listen = \"127.0.0.1:0\"\n".to_owned(), ..Setup::default() });
    let address: SocketAddr = eventually("the address in the log", || {
        let log = daemon.log();
        log.lines().find(|line| line.contains("answering /healthz"))?.split("address=").nth(1)?.trim().parse().ok()
    });
    // Killed in the middle of its start, again and again, as one that runs out of memory is.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = AtEnd(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for pid in harness::process::roles(daemon.pid(), "plugin-host") {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
        });
        eventually("three lost processes", || {
            let failed = daemon.node_get_info(windlass_csi::v1::NodeGetInfoRequest {}).err()?;
            assert_eq!(failed.code(), Code::Unavailable, "{failed}");
            failed.message().contains("left alone").then_some(())
        });
    });
    let unwell = || {
        let (status, text) = ask(address, "GET /readyz");
        (status.contains("503") && text.contains("left alone"), daemon.probe().unwrap(), daemon.status()["drivers"][0]["unready"].is_string())
    };
    assert_eq!(unwell(), (true, false, true));
    daemon.wait_ready();
    assert!(ask(address, "GET /readyz").0.contains("200"));
    daemon.node_get_info(windlass_csi::v1::NodeGetInfoRequest {}).unwrap();
}
