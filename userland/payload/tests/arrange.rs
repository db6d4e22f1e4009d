// SPDX-License-Identifier: GPL-2.0

//! What each task sees while levels come and go: a machine is simulated, whose tasks stay inside when something is
//! switched, and each of them has to see the bodies of its own universe, by whichever trampoline it comes.

use std::collections::{BTreeMap, BTreeSet};

use kcare_payload::arrange::{rows, Place, Row, Universe, ORIGINAL};
use kcare_payload::trampoline::CODE_SIZE;
use proptest::prelude::*;

/// Functions of the kernel that levels may replace, and tasks.
const SITES: u64 = 6;
const TASKS: u8 = 5;

/// A level whose addresses tell whose they are.
#[derive(Clone, Debug)]
struct Level {
    universe: u64,
    /// One bit for each function.
    sites: u8,
}

/// Address of a function's fentry site, and of its original body.
fn site(index: u64) -> u64 {
    0x1000 * (index + 1)
}

fn original(site: u64) -> u64 {
    site + 4
}

impl Level {
    fn place(&self, index: u64) -> Place {
        let own = 0x10_0000 * self.universe + 0x40 * index;
        Place {
            site: site(index),
            body: own + 0x8_0000,
            trampoline: own,
        }
    }
}

impl Universe for Level {
    fn universe(&self) -> u64 {
        self.universe
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let has = |index: &u64| self.sites & 1 << index != 0;
        (0..SITES).filter(has).map(|index| self.place(index))
    }

    fn at(&self, site: u64) -> Option<Place> {
        self.places().find(|place| place.site == site)
    }
}

/// As the kernel looks a body up (`kcare_body_of()` in shim/stragglers.c): by the return address of the trampoline's call.
/// `table` is ascending.
fn look_up(table: &[Row], place: Place, universe: u64) -> u64 {
    let key = (place.trampoline + CODE_SIZE, universe);
    let found = table.binary_search_by_key(&key, |row| (row.trampoline, row.universe));
    found.map_or(original(place.site), |index| table[index].body)
}

/// What levels are in memory and who sees what (`state.rs` and `transition.rs` of the kernel module).
#[derive(Clone, Debug, Default)]
struct Machine {
    live: Option<Level>,
    previous: Option<Level>,
    retired: Vec<Level>,
    /// Levels that nobody sees, and that a task may still be in front of.
    past: Vec<Level>,
    /// Tasks that see another universe than that of the live level.
    stragglers: BTreeMap<u8, u64>,
    /// Of the level that came last.
    universe: u64,
}

#[derive(Clone, Debug)]
enum Event {
    /// A level with these functions comes, while these tasks are inside; one bit for each.
    Apply {
        sites: u8,
        inside: u8,
    },
    Rollback {
        inside: u8,
    },
    Unload {
        inside: u8,
    },
    /// A task leaves former code.
    Leave {
        task: u8,
    },
    /// A grace period ends.
    Grace,
}

impl Machine {
    fn now(&self) -> u64 {
        self.live.as_ref().map_or(ORIGINAL, Level::universe)
    }

    fn universe_of(&self, task: u8) -> u64 {
        self.stragglers.get(&task).copied().unwrap_or(self.now())
    }

    /// In the stop: who is inside goes on seeing what it saw.
    fn switch(&mut self, from: u64, inside: u8) {
        for task in (0..TASKS).filter(|task| inside & 1 << task != 0) {
            self.stragglers.entry(task).or_insert(from);
        }
        let to = self.now();
        self.stragglers.retain(|_, universe| *universe != to);
    }

    /// What is in memory for stragglers alone goes with the last of them that sees it.
    fn close_if_over(&mut self) {
        let seen = |level: &Level| self.stragglers.values().any(|u| *u == level.universe);
        let (seen, unseen): (Vec<_>, Vec<_>) = self.retired.drain(..).partition(seen);
        self.retired = seen;
        self.past.extend(unseen);
    }

    fn go(&mut self, event: &Event) {
        let from = self.now();
        match *event {
            Event::Apply { sites, inside } => {
                self.universe += 1;
                let level = Level {
                    universe: self.universe,
                    sites,
                };
                self.retired.extend(self.previous.take());
                self.previous = self.live.replace(level);
                self.switch(from, inside);
            }
            Event::Rollback { inside } => {
                let Some(previous) = self.previous.take() else {
                    return;
                };
                self.retired.extend(self.live.replace(previous));
                self.switch(from, inside);
            }
            Event::Unload { inside } => {
                self.retired.extend(self.live.take());
                self.retired.extend(self.previous.take());
                self.switch(from, inside);
            }
            Event::Leave { task } => {
                self.stragglers.remove(&task);
            }
            Event::Grace => self.past.clear(),
        }
        self.close_if_over();
    }

    /// All levels in memory, in an order that `order` chooses.
    fn levels(&self, order: u64) -> Vec<&Level> {
        let kept = self.previous.iter().chain(&self.retired);
        let mut levels: Vec<&Level> = self.live.iter().chain(kept).collect();
        levels.sort_by_key(|level| (level.universe ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        levels
    }

    fn check(&self, order: u64) -> Result<(), TestCaseError> {
        let levels = self.levels(order);
        let asked: Vec<&Level> = levels.iter().copied().chain(&self.past).collect();
        let mut table: Vec<Row> = rows(&asked, &levels).collect();
        table.sort_unstable();
        let of_past = |row: &Row| self.past.iter().any(|level| level.universe == row.universe);
        prop_assert!(!table.iter().any(of_past));
        let keys = table.iter().map(|row| (row.trampoline, row.universe));
        prop_assert_eq!(keys.collect::<BTreeSet<_>>().len(), table.len());

        let all = asked.iter().flat_map(|level| level.places());
        let sites: BTreeSet<u64> = all.map(|place| place.site).collect();

        for task in 0..TASKS {
            let universe = self.universe_of(task);
            let mut own = levels.iter().filter(|level| level.universe == universe);
            let own = own.next();
            prop_assert!(own.is_some() || universe == ORIGINAL, "its level is gone");
            for &site in &sites {
                let wanted = match own.and_then(|level| level.at(site)) {
                    Some(place) => place.body,
                    None => original(site),
                };
                let places = asked.iter().filter_map(|level| level.at(site));
                for place in places {
                    prop_assert_eq!(look_up(&table, place, universe), wanted);
                }
            }
        }
        Ok(())
    }
}

fn events() -> impl Strategy<Value = Event> {
    let sites = 1u8..1 << SITES;
    // Mostly few tasks are inside.
    let inside = || prop_oneof![Just(0u8), 0u8..1 << TASKS, (0..TASKS).prop_map(|t| 1 << t)];
    prop_oneof![
        4 => (sites, inside()).prop_map(|(sites, inside)| Event::Apply { sites, inside }),
        2 => inside().prop_map(|inside| Event::Rollback { inside }),
        1 => inside().prop_map(|inside| Event::Unload { inside }),
        4 => (0..TASKS).prop_map(|task| Event::Leave { task }),
        1 => Just(Event::Grace),
    ]
}

proptest! {
    #[test]
    fn each_task_sees_its_own_universe(
        events in prop::collection::vec((events(), any::<u64>()), 1..24),
    ) {
        let mut machine = Machine::default();
        for (event, order) in &events {
            machine.go(event);
            machine.check(*order)?;
        }
    }
}

/// Two levels replace the original code while a task of before stays inside, and one of between.
#[test]
fn switches_stack() {
    let mut machine = Machine::default();
    for event in [
        Event::Apply {
            sites: 0b011,
            inside: 0b01,
        },
        Event::Apply {
            sites: 0b110,
            inside: 0b10,
        },
    ] {
        machine.go(&event);
    }
    assert_eq!([0, 1, 2].map(|task| machine.universe_of(task)), [0, 1, 2]);
    let levels = machine.levels(0);
    let mut table: Vec<Row> = rows(&levels, &levels).collect();
    table.sort_unstable();
    // Both levels have the second function: two trampolines, two bodies.
    assert_eq!(table.len(), 1 + 4 + 1);
    let find = |universe| levels.iter().find(|level| level.universe == universe);
    let [first, second] = [1, 2].map(|universe| *find(universe).unwrap());
    let [a, b, c] = [0, 1, 2].map(site);
    for (level, site, seen) in [
        (
            first,
            a,
            [original(a), first.at(a).unwrap().body, original(a)],
        ),
        (
            first,
            b,
            [
                original(b),
                first.at(b).unwrap().body,
                second.at(b).unwrap().body,
            ],
        ),
        (
            second,
            b,
            [
                original(b),
                first.at(b).unwrap().body,
                second.at(b).unwrap().body,
            ],
        ),
        (
            second,
            c,
            [original(c), original(c), second.at(c).unwrap().body],
        ),
    ] {
        let place = level.at(site).unwrap();
        let found = [0, 1, 2].map(|universe| look_up(&table, place, universe));
        assert_eq!(found, seen);
    }
    // A level stays until the last task that sees it has left, and no longer.
    for (levels, event) in [
        (2, Event::Unload { inside: 0 }),
        (1, Event::Leave { task: 1 }),
        (0, Event::Grace),
    ] {
        assert_eq!(machine.levels(0).len(), levels);
        machine.go(&event);
    }
    assert!(machine.past.is_empty());
}
