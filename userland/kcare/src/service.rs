// SPDX-License-Identifier: GPL-2.0

//! What is known of updates without asking anybody: from the settings, and from what the server said the last time.

use serde::{Deserialize, Serialize};

use crate::boot::Mode;
use crate::config::{Config, Sticky};
use crate::error::Result;
use crate::guard::Guard;
use crate::host;
use crate::offer::Offer;
use crate::state::State;
use crate::System;

/// What is known of updates; `--json` prints it as it stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Whether the timer's runs do anything; null if an ordinary user may not read the settings.
    pub auto_update: Option<bool>,
    /// The channel, empty for the fastest.
    pub channel: String,
    /// The highest level that the server had.
    pub newest: Option<u32>,
    /// The highest of these that the settings allow and that is not held.
    pub allowed: Option<u32>,
    /// What keeps the highest one from being taken, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_back: Option<String>,
    /// The vendor has withdrawn the live level.
    #[serde(default)]
    pub withdrawn: bool,
    /// When what the server has signed ended, if it has: nobody knows whether there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
    /// None above this one is taken.
    pub sticky: Option<u32>,
    /// Levels that were live when the machine went down uncleanly, ascending.
    pub held: Vec<u32>,
    /// The last day on which this kernel gets levels.
    pub covered_until: Option<String>,
    /// That day is over.
    #[serde(default)]
    pub coverage_ended: bool,
    /// The server had nothing for this kernel.
    pub unsupported: bool,
    /// This is a container.
    pub container: bool,
    /// `kcare.mode=` on the kernel's command line stops what would be done.
    pub stopped: bool,
}

impl Service {
    /// Reads it. What cannot be read is not known.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) if the settings cannot be understood.
    pub fn gather(system: &System, state: &State) -> Result<Self> {
        let settings = Config::read_if_allowed(&system.root)?;
        let auto_update = settings.as_ref().map(|config| config.auto_update);
        let config = settings.unwrap_or_default();
        let held = Guard::read(system)
            .map(|guard| guard.held_of(&state.kernel.hash()))
            .unwrap_or_default();
        let mut service = Self {
            auto_update,
            channel: config.prefix.clone(),
            sticky: match config.sticky {
                Sticky::Newest => None,
                Sticky::Level(level) => Some(level),
            },
            unsupported: Offer::was_unsupported(system, &config, &state.kernel),
            container: host::is_container(&system.root),
            stopped: Mode::read(&system.root) != Mode::Normal,
            ..Self::default()
        };
        if let Ok(offer) = Offer::stored(system, &config, &state.kernel) {
            service.newest = offer.levels.last().map(|level| level.level);
            service.allowed = offer
                .allowed(&config, &held)
                .next()
                .map(|level| level.level);
            service.kept_back = offer.kept_back(&config, &held).map(|(_, why)| why);
            service.withdrawn = offer.is_withdrawn(state.level());
            service.expired = offer.ended().map(|time| time.to_string());
            service.covered_until = offer.coverage().map(str::to_owned);
            service.coverage_ended = offer.coverage().is_some_and(|day| offer.is_over(day));
        }
        service.held = held;
        Ok(service)
    }

    /// A level that is known, allowed, and higher than the live one.
    pub fn to_come(&self, live: u32) -> Option<u32> {
        self.allowed.filter(|allowed| *allowed > live)
    }
}
