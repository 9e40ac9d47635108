//! The run's own requests: child runs, and their ends.

use std::time::Duration;

use stepfleet_shared::request::{self, Request, StartRequest};
use stepfleet_shared::store::{InboxEntry, Origin, Rejection, Start};

use super::driver::{Driver, answer};
use crate::workflow::Served;

impl Driver {
    /// Takes all requests, as a coordinator does. False if there were none.
    pub(super) async fn take_requests(&self) -> bool {
        let requests = self.memory.requests();
        for entry in &requests {
            match request::parse(&entry.fields) {
                Ok(Request::Start(start)) => self.start(entry, start).await,
                Ok(Request::ChildEnded(ended)) => {
                    answer(self.store.child_ended(&ended, &entry.id).await);
                }
                Ok(Request::Cancel(cancel)) => {
                    let origin = Origin::entry(&*entry.id);
                    answer(self.store.cancel(&cancel.run, Some(&origin), self.retention).await);
                }
                other => panic!("the run has made a request that the test kit does not know: {other:?}"),
            }
        }
        !requests.is_empty()
    }

    async fn start(&self, entry: &InboxEntry, request: StartRequest) {
        let run = request.id.clone().unwrap_or_else(|| entry.id.clone());
        let Some(served) = self.served_as(&request.workflow) else {
            let reason = format!(
                "the test does not serve the workflow {}; give it to the test kit with serve()",
                request.workflow
            );
            let (run, parent) = (Some(run), request.parent);
            let rejection = Rejection { entry: entry.id.clone(), run, parent, reason, ..Rejection::default() };
            answer(self.store.reject(&rejection).await);
            return;
        };
        let registration = &served.registration;
        let start = Start {
            request,
            run,
            version: registration.version,
            routes: registration.start.clone(),
            entry: Some(entry.id.clone()),
            timeout: registration.timeout_ms.map(Duration::from_millis),
            ..Start::default()
        };
        answer(self.store.start(&start).await);
    }

    /// The highest version.
    fn served_as(&self, workflow: &str) -> Option<&Served> {
        let all = self.served.values().filter(|served| served.registration.workflow == workflow);
        all.max_by_key(|served| served.registration.version)
    }
}
