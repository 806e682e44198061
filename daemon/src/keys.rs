//! Whose key opens a cluster: the one that came with the call, or, where a call comes without secrets, the operator's own.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::grants::{ClusterGrant, OwnUser};
use windlass_plan::rbd::Credentials;
use windlass_plan::request::Secrets;

/// More than any key has.
const MOST: u64 = 4096;

/// The call's secrets; where none of those that the driver names came with it, the operator's user and key under these names.
pub(crate) fn complete<'a>(grant: &ClusterGrant, names: &Credentials, given: &'a Secrets) -> Result<Cow<'a, Secrets>, Failure> {
    let is_given = [&names.user, &names.key].into_iter().any(|name| given.get(name).is_some());
    match &grant.own {
        Some(own) if !is_given => {
            let key = read(own).map_err(|problem| Failure::new(Reason::BadArgument, format!("{}: {problem}", own.key_file)))?;
            Ok(Cow::Owned(Secrets::new([(names.user.clone(), own.user.to_string()), (names.key.clone(), key)].into())))
        }
        _ => Ok(Cow::Borrowed(given)),
    }
}

/// Reads a key. A file that others could have written or read is refused: it says whose key it is to whoever owns it.
fn read(own: &OwnUser) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the cluster's key cannot be read: {error}");
    let file = open(Path::new(own.key_file.as_str())).map_err(cannot)?;
    let seen = file.metadata().map_err(cannot)?;
    let is_ours = seen.uid() == 0 || seen.uid() == nix::unistd::geteuid().as_raw();
    if !seen.is_file() || !is_ours || seen.mode() & 0o077 != 0 {
        return Err("a cluster's key is kept in a regular file of root's or the daemon's user, with mode 0600".to_owned());
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(cannot)?;
    Ok(text.trim().to_owned())
}

/// A fifo in the file's place must not hold anybody up.
fn open(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use windlass_plan::paths::HostPath;
    use windlass_plan::rbd::RbdName;

    #[test]
    fn a_call_without_secrets_uses_the_operators_key_if_nobody_else_can_read_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AQB=\n").unwrap();
        let own = OwnUser { user: RbdName::parse("csi").unwrap(), key_file: HostPath::parse(file.path().to_str().unwrap()).unwrap() };
        let grant = ClusterGrant { monitors: Vec::new(), pools: Vec::new(), own: Some(own) };
        let names = Credentials { user: "userID".into(), key: "userKey".into() };
        let asked =
            |given: &Secrets| complete(&grant, &names, given).map(|secrets| ["userID", "userKey"].map(|name| secrets.get(name).map(|s| s.reveal().to_owned())));

        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(asked(&Secrets::default()).unwrap(), [Some("csi".to_owned()), Some("AQB=".to_owned())]);
        let given = Secrets::new([("userID".to_owned(), "other".to_owned())].into());
        assert_eq!(asked(&given).unwrap(), [Some("other".to_owned()), None], "half of a pair is not mended with the operator's half");
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o640)).unwrap();
        assert!(asked(&Secrets::default()).unwrap_err().text.contains("0600"));
    }
}
