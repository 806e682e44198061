//! The three CSI services: each method parses its message, has its story told, and turns the answer into a message.

pub(crate) mod controller;
pub(crate) mod identity;
pub(crate) mod node;

use crate::claims::Answer;
use crate::refused::Refused;
use crate::served::Served;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Request;
use windlass_csi::from_proto::{BadRequest, Kind};

/// Until when the caller waits: its own deadline (`grpc-timeout`, which tonic has read into the metadata), less what the way back
/// takes, so that the answer is ours and says what goes on.
pub(crate) fn until<T>(served: &Served, request: &Request<T>) -> Instant {
    let asked = request.metadata().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    let limit = asked.map_or(served.house.config.wait, |asked| asked.saturating_sub(Duration::from_millis(20).min(asked / 10)));
    Instant::now() + limit
}

/// "1 to 8 digits and a unit", as the gRPC protocol has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Work that needs no claim, on a thread of its own: it waits for a plugin, and nothing of it is shared.
pub(crate) async fn unclaimed<T: Send + 'static>(
    served: &Arc<Served>,
    verb: &'static str,
    until: Instant,
    story: impl FnOnce(&Served) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let began = Instant::now();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let theirs = served.clone();
    crate::claims::on_a_thread(move || drop(sender.send(story(&theirs))));
    match tokio::time::timeout_at(until.into(), receiver).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Refused::Lost),
        Err(_) => Err(Refused::Deadline { verb, age: began.elapsed() }),
    }
}

/// For calls that take something away: of an id that nobody can have given there is nothing to take, which is OK (`None`).
pub(crate) fn unless_nothing<T>(parsed: Result<T, BadRequest>) -> Result<Option<T>, Refused> {
    match parsed {
        Ok(call) => Ok(Some(call)),
        Err(bad) if bad.kind() == Kind::NoSuchVolume => Ok(None),
        Err(bad) => Err(bad.into()),
    }
}

/// A story answered another kind of answer than its verb has.
pub(crate) const MISMATCH: Refused = Refused::Contract("the daemon mixed up two kinds of answers");

/// For verbs that answer nothing but OK.
pub(crate) fn done(answer: Answer) -> Result<(), Refused> {
    match answer {
        Answer::Done => Ok(()),
        _ => Err(MISMATCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        for bad in ["", "S", "1", "123456789S", "1x", "-1S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
