//! Messages that nobody would send, made from the descriptors: nothing panics, nothing is shown that is secret.

use super::*;
use crate::descriptor::{is_secret, pool};
use proptest::prelude::*;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as FieldKind, MapKey, MessageDescriptor, Value};

/// In every secret that is made here, and nowhere else.
const SECRET: &str = "hunter2";

/// Turns bytes into choices; when they run out, it is 0 for ever.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % limit
    }

    fn text(&mut self) -> String {
        let texts = [
            "",
            "v",
            "/var/lib/kubelet/x",
            "ext4",
            "xfs",
            "ro",
            "context=\"a,b",
            "\"",
            ",,",
            "\0",
            "é\u{1F6A2}",
            "../..",
            "a/b/c",
            "context=",
            "csi.storage.k8s.io/serviceAccount.tokens",
        ];
        match self.below(texts.len() + 3) {
            n if n < texts.len() => texts[n].to_owned(),
            n if n == texts.len() => "x".repeat(100 + self.below(60)),
            n if n == texts.len() + 1 => "\u{1F6A2}".repeat(self.below(40)),
            _ => "y".repeat(self.below(20) * 256),
        }
    }

    fn number(&mut self) -> i64 {
        [0, 1, -1, i64::MAX, i64::MIN, 4096, 7, 300 << 20][self.below(8)]
    }

    fn value(&mut self, kind: &FieldKind) -> Value {
        match kind {
            FieldKind::String => Value::String(self.text()),
            FieldKind::Int64 => Value::I64(self.number()),
            FieldKind::Int32 => Value::I32(self.number() as i32),
            FieldKind::Bool => Value::Bool(self.below(2) == 1),
            FieldKind::Enum(_) => Value::EnumNumber(self.below(12) as i32 - 1),
            FieldKind::Message(descriptor) => Value::Message(self.message(descriptor)),
            other => panic!("CSI had no field of the kind {other:?}"),
        }
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let count = self.below(4);
        if field.is_map() {
            let entry = |_| (MapKey::String(self.text()), Value::String(if is_secret(field) { SECRET.repeat(1 + self.below(9)) } else { self.text() }));
            return Value::Map((0..count).map(entry).collect());
        }
        if field.is_list() {
            return Value::List((0..count).map(|_| self.value(&field.kind())).collect());
        }
        self.value(&field.kind())
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if self.below(8) != 1 {
                let value = self.field(&field);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn make<M: Message + Name + Default>(&mut self) -> M {
        let descriptor = pool().get_message_by_name(&M::full_name()).unwrap();
        self.message(&descriptor).transcode_to().unwrap()
    }
}

fn check<M, T>(choices: &[u8], parse: impl Fn(M) -> Result<T, BadRequest>)
where
    M: Message + Name + Default + std::fmt::Debug,
{
    let message: M = Choices(choices).make();
    assert!(!format!("{message:?} {message:#?}").contains(SECRET));
    if let Err(bad) = parse(message) {
        let text = bad.to_string();
        assert!(!text.contains(SECRET) && !format!("{bad:?}").contains(SECRET), "{text}");
        assert!(!bad.field.is_empty() && text.len() < 1024, "{text}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_it_panic_or_tell_a_secret(choices in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&choices, |message| create_volume(message, true));
        check(&choices, modify_volume);
        check(&choices, delete_volume);
        check(&choices, validate_volume);
        check(&choices, list_volumes);
        check(&choices, list_snapshots);
        check(&choices, capacity);
        check(&choices, expand_volume);
        check(&choices, stage_volume);
        check(&choices, unstage_volume);
        check(&choices, publish_volume);
        check(&choices, unpublish_volume);
        check(&choices, volume_stats);
        check(&choices, expand_node);
    }
}
