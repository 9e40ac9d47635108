//! What `serve` refuses since it could never work: events that are joined on two levels of fan-outs, and sets that are
//! never complete.

use stepfleet::prelude::*;
use stepfleet::{graph, testing};

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Branch {}
#[derive(Event, Serialize, Deserialize)]
struct Leaf {}
#[derive(Event, Serialize, Deserialize)]
struct Conf {}
#[derive(Event, Serialize, Deserialize)]
struct Inner {
    confs: usize,
}
#[derive(Event, Serialize, Deserialize)]
struct Answered {
    confs: usize,
}

#[derive(Emit)]
enum Grown {
    Leafs(Vec<Leaf>),
    Conf(Conf),
}

/// As it should be, but for a step that mends whatever fails.
macro_rules! tree {
    ($name:ident, $catches:meta) => {
        struct $name;

        #[workflow(start = Asked, stop = Answered)]
        impl $name {
            #[step]
            async fn trunk(&self, _: Asked) -> Outcome<Vec<Branch>> {
                Ok(vec![Branch {}, Branch {}])
            }
            #[step]
            async fn branch(&self, _: Branch) -> Outcome<Vec<Leaf>> {
                Ok(vec![Leaf {}, Leaf {}])
            }
            #[step(retries = 0)]
            async fn leaf(&self, _: Leaf) -> Outcome<Conf> {
                Err(Error::terminal("withered"))
            }
            #[step]
            async fn j1(&self, all: Joined<Conf>) -> Outcome<Inner> {
                Ok(Inner { confs: all.len() })
            }
            #[step]
            async fn j2(&self, all: Joined<Inner>) -> Outcome<Answered> {
                Ok(Answered { confs: all.iter().map(|inner| inner.confs).sum() })
            }
            #[step($catches)]
            async fn mend(&self, _: StepFailed) -> Outcome<Conf> {
                Ok(Conf {})
            }
        }
    };
}

tree!(MendsAll, recoveries = 1);
tree!(MendsLeafs, catches = ["leaf"]);

/// A branch may be a leaf itself.
struct Stunted;

#[workflow(start = Asked, stop = Answered)]
impl Stunted {
    #[step]
    async fn trunk(&self, _: Asked) -> Outcome<Vec<Branch>> {
        Ok(vec![Branch {}, Branch {}])
    }
    #[step]
    async fn branch(&self, _: Branch) -> Outcome<Grown> {
        Ok(if false { Grown::Leafs(vec![]) } else { Grown::Conf(Conf {}) })
    }
    #[step]
    async fn leaf(&self, _: Leaf) -> Outcome<Conf> {
        Ok(Conf {})
    }
    #[step]
    async fn bill(&self, all: Joined<Conf>) -> Outcome<Inner> {
        Ok(Inner { confs: all.len() })
    }
    #[step]
    async fn sum(&self, all: Joined<Inner>) -> Outcome<Answered> {
        Ok(Answered { confs: all.iter().map(|inner| inner.confs).sum() })
    }
}

/// Each leaf waits for the one `Conf` of the run, which never comes to it.
struct Apart;

#[workflow(start = Asked, stop = Answered)]
impl Apart {
    #[step]
    async fn leafs(&self, _: Asked) -> Outcome<Vec<Leaf>> {
        Ok(vec![Leaf {}])
    }
    #[step]
    async fn conf(&self, _: Asked) -> Outcome<Conf> {
        Ok(Conf {})
    }
    #[step]
    async fn both(&self, _: Joined<(Leaf, Conf)>) -> Outcome<Inner> {
        Ok(Inner { confs: 1 })
    }
    #[step]
    async fn sum(&self, all: Joined<Inner>) -> Outcome<Answered> {
        Ok(Answered { confs: all.len() })
    }
}

#[test]
fn an_event_that_would_be_joined_on_two_levels_is_refused() {
    for (told, by) in [
        (graph::check::<MendsAll>().unwrap_err().to_string(), ["step j1 takes Joined<Conf>", "from step mend"]),
        (graph::check::<Stunted>().unwrap_err().to_string(), ["step bill takes Joined<Conf>", "from step branch"]),
    ] {
        for part in [by[0], by[1], "the fan-out of Leaf", "that of Branch around it", "another event"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }
}

#[tokio::test]
async fn a_step_that_mends_on_one_level_is_joined_there() {
    let run = testing::run(MendsLeafs).start(&Asked {}).await;
    assert_eq!((run.result::<Answered>().confs, run.step("j1").executions(), run.step("mend").executions()), (4, 2, 4));
}

#[test]
fn a_set_that_is_never_complete_is_refused() {
    let told = graph::check::<Apart>().unwrap_err().to_string();
    for part in ["step both takes a set with", "Leaf", "Conf", "never complete", "ctx.state()"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}
