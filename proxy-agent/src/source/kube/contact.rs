//! Whether the API server still answers. A watch says when it fails, but not when it goes on after a failure, so
//! the server is asked for its version until it answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kube::Client;
use tokio::sync::Notify;

use crate::source::{Closed, Contact, Feed, Update};

const PROBE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// Shared by the watches of one server.
#[derive(Clone)]
pub(super) struct Contacts {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    feed: Feed,
    lost: Mutex<Option<SystemTime>>,
    failed: Notify,
    back: Notify,
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// The time is over.
    Out,
    /// The server has answered somebody meanwhile.
    UntilBack,
}

impl Contacts {
    pub(super) fn new(client: Client, feed: Feed) -> Self {
        let shared =
            Shared { client, feed, lost: Mutex::new(None), failed: Notify::new(), back: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// The server answered.
    pub(super) async fn answered(&self) -> Result<(), Closed> {
        let was_lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = was_lost {
            let seconds = since.elapsed().unwrap_or_default().as_secs_f32();
            tracing::info!(seconds, "the API server answers again");
            self.shared.back.notify_waiters();
            self.shared.feed.send(Update::Contact(Contact::Current)).await?;
        }
        Ok(())
    }

    /// The server did not answer.
    pub(super) async fn failed(&self) -> Result<(), Closed> {
        let since = {
            let mut lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
            if lost.is_some() {
                return Ok(());
            }
            *lost.insert(SystemTime::now())
        };
        self.shared.failed.notify_one();
        self.shared.feed.send(Update::Contact(Contact::LostSince(since))).await
    }

    /// Waits before another try, but not once the server is back.
    pub(super) async fn wait(&self, time: Duration) -> Waited {
        tokio::select! {
            () = tokio::time::sleep(time) => Waited::Out,
            () = self.shared.back.notified() => Waited::UntilBack,
        }
    }

    /// Asks a server that did not answer until it does. Runs for as long as the watches.
    pub(super) async fn probe(self) -> Result<(), Closed> {
        loop {
            self.shared.failed.notified().await;
            loop {
                tokio::time::sleep(PROBE).await;
                if self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    break;
                }
                // A refusal is an answer, too.
                let version = tokio::time::timeout(PATIENCE, self.shared.client.apiserver_version());
                if let Ok(Ok(_) | Err(kube::Error::Api(_))) = version.await {
                    break self.answered().await?;
                }
            }
        }
    }
}
