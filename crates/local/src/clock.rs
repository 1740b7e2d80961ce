//! The world's clock, for the broker and for the agent.

use async_trait::async_trait;
use emulators::{World, clock::Clock};
use protocol::{Draw, Timestamp};
use token_broker::{outbound::SystemClock, ports};

/// The time of a world, which a test can set forward.
#[derive(Clone)]
pub struct WorldClock(Clock);

impl WorldClock {
    /// The clock of this world.
    pub fn of(world: &World) -> Self {
        Self(world.convirza.clock().clone())
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        ports::Clock::now(&SystemClock).plus(self.0.ahead())
    }
}

#[async_trait]
impl ports::Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn draw(&self) -> Draw {
        SystemClock.draw()
    }

    async fn sleep_until(&self, until: Timestamp) {
        self.0.sleep(until.since(Self::now(self))).await;
    }
}

impl token_broker_client::Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn draw(&self) -> Draw {
        ports::Clock::draw(&SystemClock)
    }
}
