//! The driver NAME: each volume is a sparse file in the folder that the operator granted as `volumes`.
//!
//! It is whole, and small: replace what it says of files by what your storage knows, and let `windlass plugin test` say which promise breaks.

use windlass_plugin_sdk::*;

/// The driver.
pub struct Driver;

const FOLDER: &str = "volumes";
const PREFIX: &str = "vol-";
const SIZES: Sizes = Sizes { smallest: 1 << 20, largest: 1 << 44, default: 1 << 30, unit: 1 << 20, sector: 512 };

impl NodeDriver for Driver {
    fn describe() -> Description {
        Description::new("VENDOR", env!("CARGO_PKG_VERSION")).online_expansion()
    }

    // Pure: the same facts, the same plan. It names what was granted; the daemon finds it, proves that it may be formatted, and mounts it.
    fn attach(_: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        if !is_id(&facts.volume) {
            return Err(unknown(&facts.volume));
        }
        Ok(AttachPlan::file(FOLDER, &facts.volume).formatted_for(&facts.capability, FilesystemKind::Ext4))
    }
}

impl FileDriver for Driver {
    // It may come twice, or again after it was cut off: the name decides which volume it is, and one that differs is refused.
    fn create_volume(_: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        facts.parameters.only(&[])?;
        if facts.source.is_some() {
            return Err(Refusal::invalid("volume_content_source: this driver makes no copies"));
        }
        let kind = kind_of(&facts.capabilities)?;
        let (id, size) = (id_of(&facts.name), SIZES.choose(&facts.capacity)?);
        let properties = Context::from([("name", facts.name.as_str()), ("kind", kind)]);
        let (file, is_new) = files.folder(FOLDER).create(&id, size, properties.clone())?;
        if !is_new && (file.properties != properties || !facts.capacity.admits(file.size)) {
            let has = format!("{} bytes, made as {:?}", file.size, file.properties.get("kind"));
            return Err(Refusal::already_exists(format!("a volume of this name exists, and differs: it has {has}")));
        }
        Ok(Volume::new(id, file.size))
    }

    fn delete_volume(_: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        if is_id(volume) { files.folder(FOLDER).delete(volume) } else { Ok(()) }
    }

    fn validate(_: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        let file = find(files, &facts.volume)?;
        Ok(match kind_of(&facts.capabilities) {
            Ok(kind) if file.properties.get("kind") == Some(kind) => facts.parameters.only(&[]).err().map(|refusal| refusal.words().to_owned()),
            Ok(kind) => Some(format!("the volume was not made to be used as {kind}")),
            Err(refusal) => Some(refusal.words().to_owned()),
        })
    }

    fn expand(_: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        let file = find(files, volume)?;
        let size = if file.size >= capacity.required { file.size } else { SIZES.choose(capacity)? };
        if !capacity.admits(size) {
            return Err(Refusal::out_of_range(format!("the volume has {size} bytes, and volumes do not shrink")));
        }
        files.folder(FOLDER).grow(volume, size).map(|file| Expanded { capacity: file.size, node_expansion: true })
    }
}

/// One kind of use for all capabilities; volumes of one node's files are not for many nodes.
fn kind_of(capabilities: &[Capability]) -> Result<&'static str, Refusal> {
    let kind = |capability: &Capability| match (capability.mode, capability.access) {
        (AccessMode::MultiNodeReaderOnly | AccessMode::MultiNodeSingleWriter | AccessMode::MultiNodeMultiWriter, _) => {
            Err(Refusal::invalid("access_mode: a volume is for one node"))
        }
        (_, Access::Block) => Ok("block"),
        (_, Access::Mount(None | Some(FilesystemKind::Ext4))) => Ok("ext4"),
        (_, Access::Mount(Some(FilesystemKind::Xfs))) => Ok("xfs"),
    };
    let kinds = capabilities.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
    match kinds.split_first() {
        Some((first, rest)) if rest.iter().all(|kind| kind == first) => Ok(first),
        _ => Err(Refusal::invalid("volume_capabilities: a volume is used in one way")),
    }
}

/// A name of the caller's may hold anything; an id is made of it, the same each time. (FNV-1a of 128 bits; two names of one id differ by their property.)
fn id_of(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b));
    format!("{PREFIX}{hash:032x}")
}

/// Could this driver have given the id?
fn is_id(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)))
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no volume {:?}", id.chars().take(64).collect::<String>()))
}

fn find(files: &Files<'_>, id: &str) -> Result<File, Refusal> {
    let file = if is_id(id) { files.folder(FOLDER).stat(id)? } else { None };
    file.ok_or_else(|| unknown(id))
}

export_file_driver!(Driver);

#[cfg(test)]
mod tests;
