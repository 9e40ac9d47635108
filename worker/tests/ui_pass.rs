//! What the macros write for sound code.

use std::time::Duration;

use stepfleet::event::Accepts;
use stepfleet::prelude::*;
use stepfleet::retry::RetryPolicy;
use stepfleet::workflow::{Definition, Step};

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    words: Vec<String>,
}
#[derive(Event, Serialize, Deserialize)]
#[event(name = "word.split")]
struct Word {
    text: String,
}
#[derive(Event, Serialize, Deserialize)]
enum Counted {
    Letters(usize),
}
#[derive(Event, Serialize, Deserialize)]
struct Answered {
    letters: usize,
}
#[derive(Serialize, Deserialize, Default)]
struct Memory {
    asked: u32,
}

#[derive(Emit)]
enum Verdict {
    Again(Option<Asked>),
    Many(Vec<Word>),
    Done(Answered),
    Nested(Inner),
    Nothing(()),
    Dropped,
}
#[derive(Emit)]
enum Inner {
    One(Counted),
}

struct LetterCount {
    most: usize,
}

#[workflow(start = Asked, stop = Answered, external = [Word], version = 3, retention = "1d 12h")]
impl LetterCount {
    #[step(sends = [Counted, Word])]
    async fn split(&self, Asked { words }: Asked) -> Outcome<Vec<Word>> {
        Ok(words.into_iter().map(|text| Word { text }).collect())
    }

    /// Attributes, visibility and documentation stay.
    #[step(name = "count-letters", retries = 5, backoff = "250ms", factor = 1.5, max_backoff = "1h", timeout = "30s")]
    #[inline]
    pub(crate) async fn count(&self, ctx: &Context<Memory>, ev: Word) -> std::result::Result<Counted, Error> {
        ctx.state().edit(|memory| memory.asked += 1).await?;
        Ok(Counted::Letters(ev.text.len().min(self.most)))
    }

    #[stepfleet::step(retries = 0)]
    async fn judge(&self, ctx: &Context, mut all: Joined<Counted>) -> Outcome<Verdict> {
        ctx.state().set("seen", &true).await?;
        all = Joined::new(all.into_vec());
        Ok(match all.len() {
            0 => Verdict::Again(None),
            1 => Verdict::Many(vec![]),
            2 => Verdict::Nothing(()),
            3 => Verdict::Dropped,
            4 => Verdict::Nested(Inner::One(Counted::Letters(0))),
            _ => Verdict::Done(Answered { letters: Self::sum(&all) }),
        })
    }

    #[cfg(test)]
    #[step]
    async fn watch(&self, _: Answered) -> Outcome<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[step]
    async fn watch(&self, _: NoSuchEvent) -> Outcome<()> {
        Ok(())
    }

    fn sum(all: &Joined<Counted>) -> usize {
        all.iter().map(|Counted::Letters(letters)| letters).sum()
    }
}

fn step<'a, W>(definition: &'a Definition<W>, name: &str) -> &'a Step<W> {
    definition.steps.iter().find(|s| s.name == name).expect("the step is there")
}

#[test]
fn a_definition_has_what_the_attributes_say() {
    let definition = LetterCount::definition();
    assert_eq!((definition.name, definition.version), ("letter_count", 3));
    assert_eq!((definition.start, definition.stop), ("Asked", "Answered"));
    assert_eq!(definition.external, ["word.split"]);
    assert_eq!(definition.retention, Duration::from_secs(36 * 3600));
    assert_eq!(
        definition.steps.iter().map(|s| s.name).collect::<Vec<_>>(),
        ["split", "count-letters", "judge", "watch"]
    );

    let split = step(&definition, "split");
    assert_eq!(split.accepts, Accepts::Each("Asked"));
    assert_eq!(split.emits.events, [("word.split", true)]);
    assert_eq!(split.sends, ["Counted", "word.split"]);
    assert_eq!((split.context, split.retry.is_some(), split.timeout), (false, false, None));

    let count = step(&definition, "count-letters");
    assert_eq!(count.accepts, Accepts::Each("word.split"));
    assert!(count.context);
    assert_eq!(count.timeout, Some(Duration::from_secs(30)));
    let retry = RetryPolicy::exponential(Duration::from_millis(250))
        .attempts(6)
        .factor(1.5)
        .max_delay(Duration::from_secs(3600));
    assert_eq!(count.retry, Some(retry));

    let judge = step(&definition, "judge");
    assert_eq!(judge.accepts, Accepts::Joined("Counted"));
    assert_eq!(judge.emits.events, [("Asked", false), ("word.split", true), ("Answered", false), ("Counted", false)]);
    assert_eq!(judge.retry, Some(RetryPolicy::default().attempts(1)));
    assert!(step(&definition, "watch").emits.events.is_empty());
}

/// Without the prelude, and with names that the output must not trip over.
#[deny(warnings, clippy::pedantic)]
mod imported {
    use stepfleet::{Error, Outcome, step, workflow};

    use super::{Answered, Asked};

    #[allow(dead_code)]
    pub(crate) struct Option;
    pub(crate) struct Typed<S> {
        pub(crate) settings: S,
    }

    #[workflow(start = Asked, stop = Answered, name = "typed", version = 0)]
    impl<S> Typed<S>
    where
        S: Fn() -> usize + Send + Sync + 'static,
    {
        #[step]
        async fn r#match(&self, _: Asked) -> Outcome<Answered> {
            Ok(Answered { letters: (self.settings)() })
        }

        #[step]
        async fn ignore(&self, ev: Asked) -> Outcome<()> {
            if ev.words.is_empty() { Ok(()) } else { Err(Error::msg("words")) }
        }
    }
}

#[test]
fn a_workflow_may_be_generic_and_use_keywords_as_names() {
    fn definition<W: Workflow>(_: &W) -> Definition<W> {
        W::definition()
    }
    let typed = imported::Typed { settings: || 3 };
    let definition = definition(&typed);
    assert_eq!(definition.steps.iter().map(|s| s.name).collect::<Vec<_>>(), ["match", "ignore"]);
    assert_eq!(((typed.settings)(), definition.name), (3, "typed"));
}

/// What callers see of events, with `JsonSchema` and without.
mod schemas {
    use serde_json::{Value, json};
    use stepfleet::prelude::*;

    #[derive(Event, Serialize, Deserialize, JsonSchema)]
    struct Full {
        /// How many.
        count: u8,
        note: Option<String>,
    }
    #[derive(Event, Serialize, Deserialize)]
    #[event(name = "names.only")]
    struct Names {
        count: u8,
        #[serde(rename = "aNote")]
        note: Option<String>,
        #[serde(skip)]
        _own: u8,
    }
    #[derive(Event, Serialize, Deserialize)]
    enum Opaque {
        One,
    }

    struct Seen;

    #[workflow(start = Full, stop = Names, external = [Opaque])]
    impl Seen {
        #[step(retries = 2, timeout = "3s")]
        async fn see(&self, ctx: &Context, ev: Full) -> Outcome<Names> {
            ctx.state().set("note", &ev.note).await?;
            Ok(Names { count: ev.count, note: ev.note, _own: 0 })
        }
        #[step(sends = [Full])]
        async fn hear(&self, ev: Opaque) -> Outcome<Vec<Names>> {
            Ok(match ev {
                Opaque::One => vec![],
            })
        }
    }

    #[test]
    fn a_graph_shows_what_its_steps_and_events_are() {
        let graph = serde_json::to_value(stepfleet::graph::of::<Seen>()).unwrap();
        let schemas = &graph["schemas"];
        assert_eq!(schemas["Full"]["properties"]["count"]["description"], "How many.");
        assert_eq!(schemas["Full"]["required"], json!(["count"]));
        let names = json!({"title": "names.only", "type": "object", "properties": {"count": {}, "aNote": {}}});
        assert_eq!(schemas["names.only"], names);
        assert_eq!(schemas["Opaque"], json!({"title": "Opaque"}));
        let (start, stop, external) = (&graph["start"], &graph["stop"], &graph["external"]);
        assert_eq!((start, stop, external), (&json!("Full"), &json!("names.only"), &json!(["Opaque"])));
        let expected: Value = json!([
            {"name": "see", "accepts": {"events": ["Full"]}, "emits": [{"event": "names.only"}],
             "context": true, "retries": 2, "timeout_ms": 3000},
            {"name": "hear", "accepts": {"events": ["Opaque"]},
             "emits": [{"event": "names.only", "many": true}, {"event": "Full", "sent": true}],
             "context": false, "retries": 3},
        ]);
        assert_eq!(graph["steps"], expected);
    }
}
