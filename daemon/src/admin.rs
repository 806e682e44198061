//! The admin socket: one JSON question a line, one JSON answer a line, for the command line alone (0600, beneath /run).

use crate::house::House;
use crate::serve::bind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;
use windlass_plan::format::FormatState;

mod answer;
mod devices;
pub(crate) mod view;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub(crate) enum Question {
    /// Everything: [`view::Status`].
    Status,
    /// What is going on, for callers and behind them: [`view::Ops`].
    Ops,
    /// The devices of this node: a list of [`view::Device`].
    Devices,
    /// What a stage request would do: [`view::Explanation`].
    ExplainStage {
        /// The driver; may be left out where there is one.
        driver: Option<String>,
        /// A NodeStageVolumeRequest, in the JSON of protocol buffers.
        request: serde_json::Value,
    },
    /// Note that a volume may be formatted once.
    AllowFormat {
        /// The driver; may be left out where there is one.
        driver: Option<String>,
        /// The volume's id.
        volume: String,
        /// Also over what an interrupted format left, and not only if it is blank.
        over_remains: bool,
    },
    /// Note that a driver's next version may be lower than what has served.
    AllowDowngrade {
        /// The driver.
        driver: String,
    },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

/// Listens until the daemon ends.
pub(crate) fn listen(house: &Arc<House>, mut ends: watch::Receiver<bool>) -> anyhow::Result<PathBuf> {
    let path = house.config.run.join("admin.sock");
    let listener = bind(&house.config.run, "run", &path)?;
    let house = house.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = ends.wait_for(|ends| *ends) => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(tokio::spawn(serve(house.clone(), stream))),
                    Err(error) => tracing::warn!(%error, "a connection to the admin socket was lost"),
                },
            }
        }
    });
    Ok(path)
}

async fn serve(house: Arc<House>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let house = house.clone();
        // A question may ask a plugin, or read many records.
        crate::claims::on_a_thread(move || drop(sender.send(reply(&house, &line))));
        let Ok(reply) = receiver.await else { return };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        if writer.write_all(&text).await.is_err() {
            return;
        }
    }
}

fn reply(house: &Arc<House>, line: &str) -> Reply {
    let answer = match serde_json::from_str(line) {
        Ok(Question::Status) => Ok(serde_json::to_value(answer::status(house))),
        Ok(Question::Ops) => Ok(serde_json::to_value(answer::ops(house))),
        Ok(Question::Devices) => devices::devices(house).map(serde_json::to_value),
        Ok(Question::ExplainStage { driver, request }) => answer::explain_stage(house, driver.as_deref(), &request).map(serde_json::to_value),
        Ok(Question::AllowFormat { driver, volume, over_remains }) => {
            let word = if over_remains { FormatState::AllowedOverRemains } else { FormatState::Allowed };
            answer::allow_format(house, driver.as_deref(), &volume, word).map(serde_json::to_value)
        }
        Ok(Question::AllowDowngrade { driver }) => answer::allow_downgrade(house, &driver).map(serde_json::to_value),
        Err(error) => Err(format!("not a question of this version: {error}")),
    };
    match answer {
        Ok(Ok(value)) => Reply::Ok(value),
        Ok(Err(error)) => Reply::Error(error.to_string()),
        Err(error) => Reply::Error(error),
    }
}
