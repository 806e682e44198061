//! The descriptor set of `csi.proto`, and which of its fields are secret.

use prost_reflect::{DescriptorPool, FieldDescriptor};
use std::collections::HashSet;
use std::sync::LazyLock;

/// `csi.proto` and its imports as an encoded `FileDescriptorSet`, options included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/csi.bin"));

/// The package whose messages these are.
pub(crate) const PACKAGE: &str = "csi.v1";

/// The descriptors, decoded once.
pub(crate) fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build wrote this descriptor set, and a test decodes it"));
    &POOL
}

/// Is the field marked with `(csi_secret) = true`?
pub(crate) fn is_secret(field: &FieldDescriptor) -> bool {
    static SECRET: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let marked = pool().get_extension_by_name("csi.v1.csi_secret").expect("csi.proto declares it, and a test looks for it");
        let fields = pool().all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
        fields.filter(|field| field.options().get_extension(&marked).as_bool() == Some(true)).map(|field| field.full_name().to_owned()).collect()
    });
    SECRET.contains(field.full_name())
}
