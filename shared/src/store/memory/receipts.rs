//! Receipts: tell the requester, in the list that the request names, the outcome of the request and of the run it
//! started.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::data::Data;
use crate::codec::Content;
use crate::reply::name_of_list;
use crate::request::StartRequest;
use crate::store::Origin;

/// How many of the newest receipts a list keeps.
const REPLY_MAX: usize = 1000;
/// How long a list is kept after its last receipt, in ms.
const REPLY_MS: u64 = 24 * 3600 * 1000;
/// The largest result that the receipt of the end includes, in bytes.
const REPLY_RESULT: usize = 65_536;
/// How many lists get a receipt of the end of a run.
const REPLIES: usize = 16;

/// The receipts of a list, and until when they are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts {
    kept: VecDeque<String>,
    until: u64,
}

impl Data {
    pub(super) fn receipts(&self, now: u64, list: &str) -> Vec<String> {
        let found = self.replies.get(list).filter(|receipts| now <= receipts.until);
        found.map(|receipts| receipts.kept.iter().cloned().collect()).unwrap_or_default()
    }

    /// Appends a receipt to a list, without its empty members.
    pub(super) fn push_receipt(&mut self, now: u64, list: &str, event: &str, run: &str, more: &[(&str, Value)]) {
        let mut members = Map::new();
        let all = [("event", json!(event)), ("run", json!(run))].into_iter().chain(more.iter().cloned());
        members.extend(all.filter(|(_, value)| *value != json!("")).map(|(name, value)| (name.to_owned(), value)));
        let receipts = self.replies.entry(list.to_owned()).or_default();
        if now > receipts.until {
            receipts.kept.clear();
        }
        receipts.kept.push_back(Value::Object(members).to_string());
        if receipts.kept.len() > REPLY_MAX {
            receipts.kept.pop_front();
        }
        receipts.until = now + REPLY_MS;
    }

    /// Sends the requester a receipt with the outcome of a request about a run.
    pub(super) fn push_fate(&mut self, now: u64, asked: &str, origin: Option<&Origin>, fate: &str) {
        let Some(origin) = origin.filter(|origin| !origin.reply.is_empty()) else { return };
        let more = [("entry", json!(origin.entry)), ("request", json!(origin.request))];
        self.push_receipt(now, &origin.reply, fate, asked, &more);
    }

    /// The lists that get a receipt when the run ends or its deferred request is settled.
    pub(super) fn lists_of(&self, run: &str) -> Vec<String> {
        self.followers.get(run).map(|lists| lists.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn follow_end(&mut self, run: &str, list: &str) {
        let lists = self.followers.entry(run.to_owned()).or_default();
        if lists.len() < REPLIES {
            lists.insert(list.to_owned());
        }
    }

    pub(super) fn tell_end(&mut self, now: u64, run: &str, lists: &[String]) {
        let Some(shown) = self.runs.get(run).map(|run| run.shown.clone()) else { return };
        let small = shown.result.filter(|result| shown.content == Content::Json && result.len() <= REPLY_RESULT);
        let result: Option<Value> = small.and_then(|result| serde_json::from_slice(&result).ok());
        let mut more = vec![("status", json!(shown.status)), ("error", json!(shown.error.unwrap_or_default()))];
        more.extend(result.map(|result| ("result", result)));
        for list in lists {
            self.push_receipt(now, list, "ended", run, &more);
        }
    }

    /// Sends the receipt of the start of a run to its requesters, and has its end sent to them.
    pub(super) fn tell_started(&mut self, now: u64, run: &str, lists: &[String], origin: &Origin, is_repeated: bool) {
        let mut more = vec![("entry", json!(origin.entry)), ("request", json!(origin.request))];
        more.extend(is_repeated.then_some(("repeated", json!(true))));
        for list in lists {
            self.push_receipt(now, list, "started", run, &more);
            if self.has_ended(run) {
                self.tell_end(now, run, std::slice::from_ref(list));
            } else {
                self.follow_end(run, list);
            }
        }
    }

    /// The list that a start names, unless an earlier try has processed its entry.
    pub(super) fn list_of(&self, request: &StartRequest, entry: Option<&str>) -> Option<String> {
        let key = request.reply.as_deref().filter(|_| !self.is_gone(entry))?;
        Some(name_of_list(key).to_owned())
    }

    /// Sends the receipt of a request about a run that created another run.
    pub(super) fn tell_made(&mut self, now: u64, run: &str, origin: Option<&Origin>, is_repeated: bool) {
        let Some(origin) = origin.filter(|origin| !origin.reply.is_empty()) else { return };
        self.tell_started(now, run, std::slice::from_ref(&origin.reply), origin, is_repeated);
    }

    /// Has the end of a retried run sent to the requester of the retry.
    pub(super) fn follow_again(&mut self, run: &str, origin: Option<&Origin>) {
        if let Some(origin) = origin.filter(|origin| !origin.reply.is_empty()) {
            self.follow_end(run, &origin.reply);
        }
    }
}
