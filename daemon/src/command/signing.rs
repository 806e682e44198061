//! `windlass plugin keygen`, `sign`, `verify`, `inspect` and `allow-downgrade`: a vendor signs, an operator looks and allows.

use super::{Output, ask, print, print_json, size};
use crate::admin::Question;
use crate::cli::Ask;
use anyhow::{Context, bail, ensure};
use base64::Engine;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use windlass_plugins::component::{Component, LARGEST, Source};
use windlass_plugins::signature::{self, Key, SignatureError, Signer};

/// Where a key's password is found by those who cannot type it.
const PASSWORD: &str = "WINDLASS_KEY_PASSWORD";

/// The longest comment, in bytes.
const LONGEST_COMMENT: usize = 1024;

/// The largest key file that is read, in bytes.
const LARGEST_KEY: u64 = 4 << 10;

#[derive(Serialize)]
struct Generated {
    secret_key: String,
    public_key: String,
    id: String,
    key: String,
}

/// Makes a pair of keys: FILE, which nobody else can read, and FILE.pub. Writes over nothing.
pub(crate) fn keygen(file: &Path, without_password: bool, output: Output) -> anyhow::Result<()> {
    let beside = with_suffix(file, "pub");
    for path in [file, &beside] {
        ensure!(!path.try_exists()?, "{} is there already: name another file, or put this one away", path.display());
    }
    let (KeyPair { pk, sk }, hint) = if without_password {
        (KeyPair::generate_unencrypted_keypair()?, "windlass secret key, without a password")
    } else {
        (KeyPair::generate_encrypted_keypair(Some(new_password()?))?, "windlass secret key")
    };
    let key = Key::parse(&pk.to_base64())?;
    write_new(file, 0o600, &sk.to_box(Some(hint))?.into_string())?;
    write_new(&beside, 0o644, &pk.to_box()?.into_string())?;
    let generated =
        Generated { secret_key: file.display().to_string(), public_key: beside.display().to_string(), id: key.id().to_owned(), key: pk.to_base64() };
    if output == Output::Json {
        return print_json(&generated);
    }
    print(&format!(
        "key {}\n  secret  {}\n  public  {}\nfor drivers.d:\n  keys = [{:?}]",
        generated.id, generated.secret_key, generated.public_key, generated.key
    ))
}

#[derive(Serialize)]
struct Made {
    component: String,
    signature: String,
    id: String,
    comment: String,
}

/// Signs a component: the signature goes beside it, in one step, in the place of an earlier one.
pub(crate) fn sign(file: &Path, key: &Path, comment: Option<String>, output: Output) -> anyhow::Result<()> {
    let bytes = bounded(file, LARGEST)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // As minisign has it.
    let comment = comment.unwrap_or_else(|| format!("timestamp:{seconds}\tfile:{name}\thashed"));
    ensure!(
        comment.len() <= LONGEST_COMMENT && !comment.chars().any(|c| c.is_control() && c != '\t'),
        "`--comment` must be one line of at most {LONGEST_COMMENT} bytes"
    );
    let secret = secret_key(key)?;
    let public = PublicKey::from_secret_key(&secret)?;
    let signed = minisign::sign(Some(&public), &secret, bytes.as_slice(), Some(&comment), Some("signature from windlass plugin sign"))?;
    let path = signature::beside(file);
    let temporary = with_suffix(&path, "new");
    std::fs::write(&temporary, signed.into_string())
        .and_then(|()| std::fs::rename(&temporary, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let id = Key::parse(&public.to_base64())?.id().to_owned();
    let made = Made { component: file.display().to_string(), signature: path.display().to_string(), id, comment };
    if output == Output::Json {
        return print_json(&made);
    }
    print(&format!("{} is signed with key {}: {}", made.component, made.id, made.signature))
}

/// Says whether one of the keys has signed a component; fails if none has.
pub(crate) fn verify(file: &Path, keys: &[String], output: Output) -> anyhow::Result<()> {
    let (component, state) = look(file, keys)?;
    if let Some(problem) = &state.problem {
        bail!("{problem}");
    }
    show(file, &component, &state, output)
}

/// Shows a component and its signature. Nothing is compiled or run.
pub(crate) fn inspect(file: &Path, keys: &[String], output: Output) -> anyhow::Result<()> {
    let (component, state) = look(file, keys)?;
    show(file, &component, &state, output)
}

/// Notes that a driver's next version may be lower than what has served, and prints what was noted.
pub(crate) fn allow_downgrade(from: &Ask, driver: String) -> anyhow::Result<()> {
    print(&ask::<String>(from, &Question::AllowDowngrade { driver })?)
}

/// How a component's signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    /// By one of the keys that were given.
    Valid,
    /// There is one; no key was given to check it with.
    Unchecked,
    /// There is none.
    Missing,
    /// It does not let the component pass.
    Bad,
}

/// A component's signature, for people and programs.
#[derive(Debug, Serialize)]
pub(super) struct State {
    state: Found,
    key: Option<String>,
    comment: Option<String>,
    problem: Option<String>,
}

impl State {
    /// Looks at the signature beside `path`, with keys or without.
    pub(super) fn of(component: &Component, path: &Path, keys: &[Key]) -> Self {
        let answer = if keys.is_empty() { signature::look(path) } else { signature::check(component, path, keys) };
        let good = if keys.is_empty() { Found::Unchecked } else { Found::Valid };
        match answer {
            Ok(Signer { key, comment }) => Self { state: good, key: Some(key), comment: Some(comment), problem: None },
            Err(error) => {
                let state = if matches!(error, SignatureError::Missing { .. }) { Found::Missing } else { Found::Bad };
                Self { state, key: None, comment: None, problem: Some(error.to_string()) }
            }
        }
    }

    /// One line.
    pub(super) fn words(&self) -> String {
        let (key, comment) = (self.key.as_deref().unwrap_or("?"), self.comment.as_deref().unwrap_or(""));
        match self.state {
            Found::Valid => format!("valid, by key {key}: {comment}"),
            Found::Unchecked => format!("not checked (`--key` does so); it says that it is by key {key}"),
            Found::Missing => "none".to_owned(),
            Found::Bad => format!("BAD: {}", self.problem.as_deref().unwrap_or("?")),
        }
    }
}

#[derive(Serialize)]
struct Inspected<'a> {
    component: String,
    bytes: u64,
    digest: &'a str,
    signature: &'a State,
}

fn show(file: &Path, component: &Component, state: &State, output: Output) -> anyhow::Result<()> {
    let bytes = component.bytes.len() as u64;
    let inspected = Inspected { component: file.display().to_string(), bytes, digest: &component.digest, signature: state };
    if output == Output::Json {
        return print_json(&inspected);
    }
    print(&format!("{}\n  sha256     {}\n  size       {}\n  signature  {}", inspected.component, component.digest, size(bytes), state.words()))
}

/// Reads as the daemon does: what it would not read is an error here as well.
fn look(file: &Path, keys: &[String]) -> anyhow::Result<(Component, State)> {
    let component = Source::File(file.to_owned()).read()?;
    let state = State::of(&component, file, &public_keys(keys)?);
    Ok((component, state))
}

/// Public keys, each as it is or as the name of its file.
pub(super) fn public_keys(given: &[String]) -> anyhow::Result<Vec<Key>> {
    let parse = |given: &String| {
        if let Ok(key) = Key::parse(given) {
            return Ok(key);
        }
        let text =
            bounded(Path::new(given), LARGEST_KEY).with_context(|| format!("`--key {given}` is neither a public key of minisign nor a file with one"))?;
        let text = String::from_utf8_lossy(&text);
        Key::parse(text.lines().nth(1).unwrap_or_default().trim()).map_err(|error| anyhow::anyhow!("{given}: its second line {error}"))
    };
    given.iter().map(parse).collect()
}

fn secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = String::from_utf8_lossy(&bounded(path, LARGEST_KEY)?).into_owned();
    let bytes = text.lines().nth(1).and_then(|line| base64::engine::general_purpose::STANDARD.decode(line.trim()).ok()).unwrap_or_default();
    let boxed = || SecretKeyBox::from_string(&text);
    // Two bytes for the algorithm, then two for what protects the key: nothing, or scrypt.
    let key = match bytes.get(2..4) {
        // The program minisign leaves the checksum of such a key out.
        Some([0, 0]) if bytes.ends_with(&[0; 32]) => SecretKey::from_bytes(&bytes),
        Some([0, 0]) => boxed()?.into_unencrypted_secret_key(),
        Some(b"Sc") => boxed()?.into_secret_key(Some(password_of(path)?)),
        _ => bail!("{} is no secret key of minisign", path.display()),
    };
    key.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

fn password_of(key: &Path) -> anyhow::Result<String> {
    std::env::var(PASSWORD).or_else(|_| {
        rpassword::prompt_password(format!("Password of {}: ", key.display()))
            .with_context(|| format!("the key has a password, and there is no terminal to ask for it; `{PASSWORD}` can hold it"))
    })
}

fn new_password() -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).with_context(|| {
            format!("there is no terminal to ask for the key's password; `{PASSWORD}` can hold it, or `--no-password` makes a key without one")
        })
    };
    let password = ask("Password of the new key: ")?;
    ensure!(ask("Once more: ")? == password, "these are two passwords; nothing was made");
    Ok(password)
}

fn bounded(path: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.take(largest + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= largest, "{} has more than {largest} bytes", path.display());
    Ok(bytes)
}

fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
