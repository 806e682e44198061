//! May this device be formatted? The one place that decides (law 5).

use crate::attach::Content;
use crate::capability::FilesystemKind;
use crate::failure::{Failure, Reason};
use crate::step::{Backing, Doubt, Probe, Writable};
use serde::{Deserialize, Serialize};

/// What was noted durably about formatting a volume on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatNote {
    /// The source that was formatted. `None`: the operator's word about a volume of which nothing was noted before.
    pub backing: Option<Backing>,
    /// How far it came.
    pub state: FormatState,
    /// The controller's proof that the format relied on. What was proven before a format began proves nothing after.
    #[serde(default)]
    pub proof: Option<String>,
}

/// How far formatting came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatState {
    /// mkfs may have run, in part or in whole. Says nothing about what came after: the volume may have been used raw, or elsewhere.
    Begun,
    /// mkfs succeeded, or the volume was handed out for writing since the last note. From here on it is never formatted again.
    Finished,
    /// The operator allowed it once, for a blank volume (`windlass volumes allow-format`).
    Allowed,
    /// The operator allowed it once, also over what an interrupted format left: data that no known format explains (`--over-remains`).
    AllowedOverRemains,
}

impl FormatNote {
    /// Is it about this very source? The number of a file's device changes from boot to boot, so it only counts where nothing says when
    /// the file was made.
    fn is_about(&self, backing: &Backing) -> bool {
        match (&self.backing, backing) {
            (Some(Backing::File(noted)), Backing::File(file)) if file.born_ns != 0 => (noted.inode, noted.born_ns) == (file.inode, file.born_ns),
            (noted, backing) => noted.as_ref() == Some(backing),
        }
    }
}

/// What to do with a device before it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Mount it as what it is.
    Use,
    /// mkfs first.
    Format {
        /// Why that is safe: goes into the log.
        because: String,
    },
}

/// The facts that the decision is made from.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What is on the device.
    pub probe: &'a Probe,
    /// The device's source.
    pub backing: &'a Backing,
    /// How the volume came into being, says the driver.
    pub content: Content,
    /// The controller or the operator vouches that the volume is one that Windlass made (`windlass.io/source` was checked).
    pub is_ours: bool,
    /// What was noted on this node, if anything.
    pub note: Option<&'a FormatNote>,
    /// The file system that belongs on it.
    pub kind: FilesystemKind,
    /// A device that is to be read only is never formatted.
    pub writable: Writable,
    /// The controller's proof that the device was blank, where the probe relied on one.
    pub proof: Option<&'a str>,
}

/// Decides, or says why neither will do and what the way out is.
pub fn decide(evidence: &Evidence<'_>) -> Result<Decision, Failure> {
    // That a format was begun is about the source on which it was. All else is about the volume, whatever is behind it now.
    let note = evidence.note.filter(|note| note.state != FormatState::Begun || note.is_about(evidence.backing));
    let state = note.map(|note| note.state);
    match evidence.probe {
        // What is there and whole is never formatted over, whatever a note says: a note cannot know who else has written since.
        Probe::Holds { kind: Some(kind), .. } if *kind == evidence.kind => Ok(Decision::Use),
        _ if evidence.writable == Writable::ReadOnly => refuse_read_only(evidence),
        Probe::Holds { what, .. } => {
            Err(Failure::new(Reason::HoldsOtherContent, format!("the volume holds {what}, not {}; it is left untouched", evidence.kind)))
        }
        Probe::Unknown { doubt: Doubt::Unexplained, why }
            if state == Some(FormatState::AllowedOverRemains) && note.is_some_and(|note| note.is_about(evidence.backing)) =>
        {
            Ok(Decision::Format { because: format!("the operator allowed it over what an interrupted format left ({why})") })
        }
        Probe::Unknown { doubt, why } => {
            let hint = if *doubt == Doubt::Unexplained && note.is_some_and(|note| note.state != FormatState::Finished && note.is_about(evidence.backing)) {
                "; a format was begun here and interrupted: if nothing else has written to the volume since, \
                 `windlass volumes allow-format --over-remains ID` lets it be formatted"
            } else {
                ""
            };
            Err(Failure::new(Reason::CannotTell, format!("cannot tell what is on the volume, so it is neither formatted nor mounted: {why}{hint}")))
        }
        Probe::Blank { .. } if is_spent(evidence, note) => Err(Failure::new(
            Reason::CannotTell,
            "a format was begun here and interrupted, and the proof that the volume was blank is older; let it be taken from the node and published anew, \
             or, if nothing else has written to it since, allow it with `windlass volumes allow-format ID`",
        )),
        Probe::Blank { proof } => decide_blank(evidence, state, proof),
    }
}

/// Was the proof given before a format that was begun and did not finish? Only images have such proofs; of a file the kernel tells how
/// it is now.
fn is_spent(evidence: &Evidence<'_>, note: Option<&FormatNote>) -> bool {
    note.is_some_and(|note| note.state == FormatState::Begun && note.proof.is_some() && note.proof.as_deref() == evidence.proof)
}

fn decide_blank(evidence: &Evidence<'_>, state: Option<FormatState>, proof: &str) -> Result<Decision, Failure> {
    let way_out = "if it may be formatted, say so with `windlass volumes allow-format ID`";
    if matches!(state, Some(FormatState::Allowed | FormatState::AllowedOverRemains)) {
        return Ok(Decision::Format { because: format!("the operator allowed it, and {proof}") });
    }
    if state == Some(FormatState::Finished) {
        return Err(Failure::new(
            Reason::NoProof,
            format!("the volume was formatted or used on this node before and is blank now: its data is gone or it is not the same volume; {way_out}"),
        ));
    }
    if evidence.content == Content::Copy {
        return Err(Failure::new(Reason::NoProof, format!("the volume should be a copy of another and is blank, so it is not formatted; {way_out}")));
    }
    if !evidence.is_ours {
        return Err(Failure::new(Reason::NoProof, format!("the volume is blank, but nothing proves that Windlass made it; {way_out}")));
    }
    Ok(Decision::Format { because: proof.to_owned() })
}

fn refuse_read_only(evidence: &Evidence<'_>) -> Result<Decision, Failure> {
    let found = match evidence.probe {
        Probe::Blank { .. } => "is blank".to_owned(),
        Probe::Holds { what, .. } => format!("holds {what}"),
        Probe::Unknown { why, .. } => format!("cannot be recognised ({why})"),
    };
    Err(Failure::new(Reason::HoldsOtherContent, format!("the volume is wanted read-only and {found}, so there is no {} to show", evidence.kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::BackingFile;

    const FILE: BackingFile = BackingFile { device: 1, inode: 2, born_ns: 3 };
    const BACKING: Backing = Backing::File(FILE);

    fn blank() -> Probe {
        Probe::Blank { proof: "no data in 0..1".into() }
    }
    fn holds(what: &str, kind: Option<FilesystemKind>) -> Probe {
        Probe::Holds { what: what.into(), kind }
    }
    fn remains() -> Probe {
        Probe::Unknown { doubt: Doubt::Unexplained, why: "data that nothing explains".into() }
    }
    fn unreadable() -> Probe {
        Probe::Unknown { doubt: Doubt::Damaged, why: "read error".into() }
    }

    fn check(probe: &Probe, content: Content, is_ours: bool, note: Option<(Backing, FormatState)>, writable: Writable) -> Result<bool, Reason> {
        let note = note.map(|(backing, state)| FormatNote { backing: Some(backing), state, proof: None });
        let evidence = Evidence { probe, backing: &BACKING, content, is_ours, note: note.as_ref(), kind: FilesystemKind::Ext4, writable, proof: None };
        decide(&evidence).map(|d| matches!(d, Decision::Format { .. })).map_err(|failure| failure.reason)
    }

    #[test]
    fn only_proof_formats() {
        use Content::{Blank, Copy};
        use FormatState::{Allowed, AllowedOverRemains, Begun, Finished};
        use Writable::{ReadOnly, ReadWrite};
        let ext4 = holds("ext4", Some(FilesystemKind::Ext4));
        let xfs = holds("xfs", Some(FilesystemKind::Xfs));
        let luks = holds("crypto_LUKS", None);
        let other = Backing::File(BackingFile { inode: 9, ..FILE });
        let renumbered = Backing::File(BackingFile { device: 9, ..FILE });
        for (probe, content, is_ours, note, writable, want) in [
            (&blank(), Blank, true, None, ReadWrite, Ok(true)),
            (&blank(), Blank, true, None, ReadOnly, Err(Reason::HoldsOtherContent)),
            (&blank(), Blank, false, None, ReadWrite, Err(Reason::NoProof)),
            (&blank(), Copy, true, None, ReadWrite, Err(Reason::NoProof)),
            (&blank(), Blank, true, Some((BACKING, Begun)), ReadWrite, Ok(true)),
            (&blank(), Blank, true, Some((BACKING, Finished)), ReadWrite, Err(Reason::NoProof)),
            (&blank(), Blank, true, Some((other.clone(), Finished)), ReadWrite, Err(Reason::NoProof)),
            (&blank(), Copy, false, Some((BACKING, Allowed)), ReadWrite, Ok(true)),
            (&blank(), Copy, false, Some((other.clone(), Allowed)), ReadWrite, Ok(true)),
            (&ext4, Blank, true, None, ReadWrite, Ok(false)),
            (&ext4, Copy, false, None, ReadOnly, Ok(false)),
            (&ext4, Blank, true, Some((BACKING, Finished)), ReadWrite, Ok(false)),
            (&ext4, Blank, true, Some((BACKING, Allowed)), ReadWrite, Ok(false)),
            (&ext4, Blank, true, Some((BACKING, Begun)), ReadWrite, Ok(false)),
            (&ext4, Copy, true, Some((BACKING, Begun)), ReadWrite, Ok(false)),
            (&ext4, Blank, true, Some((BACKING, AllowedOverRemains)), ReadWrite, Ok(false)),
            (&ext4, Blank, true, Some((BACKING, Begun)), ReadOnly, Ok(false)),
            (&xfs, Blank, true, None, ReadWrite, Err(Reason::HoldsOtherContent)),
            (&xfs, Blank, true, Some((BACKING, Begun)), ReadWrite, Err(Reason::HoldsOtherContent)),
            (&luks, Blank, true, Some((BACKING, Allowed)), ReadWrite, Err(Reason::HoldsOtherContent)),
            (&luks, Blank, true, Some((BACKING, AllowedOverRemains)), ReadWrite, Err(Reason::HoldsOtherContent)),
            (&blank(), Copy, false, Some((other.clone(), AllowedOverRemains)), ReadWrite, Ok(true)),
            (&blank(), Blank, true, Some((other.clone(), Begun)), ReadWrite, Ok(true)),
            (&remains(), Blank, true, None, ReadWrite, Err(Reason::CannotTell)),
            (&remains(), Blank, true, Some((BACKING, Allowed)), ReadWrite, Err(Reason::CannotTell)),
            (&remains(), Blank, true, Some((BACKING, Finished)), ReadWrite, Err(Reason::CannotTell)),
            (&remains(), Blank, true, Some((BACKING, Begun)), ReadWrite, Err(Reason::CannotTell)),
            (&remains(), Blank, true, Some((BACKING, AllowedOverRemains)), ReadWrite, Ok(true)),
            (&remains(), Blank, true, Some((renumbered, AllowedOverRemains)), ReadWrite, Ok(true)),
            (&remains(), Blank, true, Some((BACKING, AllowedOverRemains)), ReadOnly, Err(Reason::HoldsOtherContent)),
            (&remains(), Blank, true, Some((other, AllowedOverRemains)), ReadWrite, Err(Reason::CannotTell)),
            (&unreadable(), Blank, true, Some((BACKING, AllowedOverRemains)), ReadWrite, Err(Reason::CannotTell)),
            (&unreadable(), Blank, true, Some((BACKING, Begun)), ReadWrite, Err(Reason::CannotTell)),
        ] {
            let got = check(probe, content, is_ours, note.clone(), writable);
            assert_eq!(got, want, "{probe:?} {content:?} ours={is_ours} note={note:?} {writable:?}");
        }
    }

    #[test]
    fn a_proof_is_good_for_one_format_that_was_begun() {
        let asked = |noted: Option<&str>, state, proof| {
            let note = FormatNote { backing: Some(BACKING), state, proof: noted.map(str::to_owned) };
            let evidence = Evidence {
                probe: &blank(),
                backing: &BACKING,
                content: Content::Blank,
                is_ours: true,
                note: Some(&note),
                kind: FilesystemKind::Ext4,
                writable: Writable::ReadWrite,
                proof,
            };
            decide(&evidence).map(|d| matches!(d, Decision::Format { .. })).map_err(|failure| failure.reason)
        };
        assert_eq!(asked(Some("one"), FormatState::Begun, Some("one")), Err(Reason::CannotTell));
        assert_eq!(asked(Some("one"), FormatState::Begun, Some("two")), Ok(true));
        assert_eq!(asked(Some("one"), FormatState::Finished, Some("two")), Err(Reason::NoProof));
        assert_eq!(asked(None, FormatState::Begun, None), Ok(true));
    }
}
