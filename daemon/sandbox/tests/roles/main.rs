//! The roles as processes of their own, for the tests: what the daemon's binary does with `windlass plugin-host`.

mod probe;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let uid = arguments.get(1).and_then(|uid| uid.parse().ok());
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse().ok());
    let lanes = number(2).unwrap_or(0) as u32;
    match arguments.first().map(String::as_str) {
        Some("plugin-host") => windlass_sandbox::plugin_host(uid, lanes),
        Some("plugin-host-of-nobody") => {
            let nobody = nix::unistd::Uid::from_raw(65534);
            nix::unistd::setgroups(&[]).and_then(|()| nix::unistd::setresuid(nobody, nobody, nobody)).expect("root becomes nobody");
            windlass_sandbox::plugin_host(None, lanes)
        }
        Some("probe") => probe::run(uid, arguments.get(2).map_or("", String::as_str)),
        Some("compile") => {
            let usual = windlass_sandbox::CompileLimits::default();
            let cpu_seconds = number(2).unwrap_or(usual.cpu_seconds);
            let memory = number(3).unwrap_or(usual.memory);
            windlass_sandbox::compile(uid, windlass_sandbox::CompileLimits { cpu_seconds, memory, ..usual })
        }
        _ => std::process::ExitCode::from(64),
    }
}
