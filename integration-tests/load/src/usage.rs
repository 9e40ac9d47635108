//! What Redis reports about its work: commands, function calls and CPU time.

use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};

use crate::Fallible;
use crate::floor::Rate;
use crate::stats::number;

/// What the server has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// `FCALL`s.
    pub(crate) fcalls: u64,
    /// Commands other than `FCALL`, those inside of functions included.
    pub(crate) commands: u64,
    /// CPU time in microseconds, user and system.
    pub(crate) cpu_us: f64,
}

/// What one step took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) fcalls: f64,
    pub(crate) commands: f64,
    pub(crate) redis_us: f64,
    /// CPU time of one step commit of the floor, beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) floor_us: Option<f64>,
}

impl Cost {
    /// Beside what the floor took.
    pub(crate) fn beside(self, floor: Rate) -> Self {
        Self { floor_us: Some(floor.redis_us), ..self }
    }
}

impl Usage {
    pub(crate) async fn read(redis: &mut MultiplexedConnection) -> Fallible<Self> {
        let info: String = redis::cmd("INFO").arg("commandstats").arg("cpu").query_async(redis).await?;
        Ok(Self::parse(&info))
    }

    /// What these servers have done together.
    pub(crate) async fn of_all(servers: &mut [MultiplexedConnection]) -> Fallible<Self> {
        let mut all = Self::default();
        for server in servers {
            all = all.and(Self::read(server).await?);
        }
        Ok(all)
    }

    fn parse(info: &str) -> Self {
        let mut usage = Self::default();
        for line in info.lines() {
            if let Some((name, calls)) = calls(line) {
                match name {
                    "fcall" => usage.fcalls += calls,
                    // The tool's own look at the server.
                    "info" => {}
                    _ => usage.commands += calls,
                }
            } else if let Some(seconds) =
                line.strip_prefix("used_cpu_user:").or_else(|| line.strip_prefix("used_cpu_sys:"))
            {
                usage.cpu_us += seconds.trim().parse::<f64>().unwrap_or(0.0) * 1e6;
            }
        }
        usage
    }

    /// What two servers have done.
    fn and(self, other: Self) -> Self {
        Self {
            fcalls: self.fcalls + other.fcalls,
            commands: self.commands + other.commands,
            cpu_us: self.cpu_us + other.cpu_us,
        }
    }

    /// What each of this many steps took since `before`.
    pub(crate) fn per_step(self, before: Self, steps: u64) -> Cost {
        let steps = number(steps);
        Cost {
            fcalls: number(self.fcalls - before.fcalls) / steps,
            commands: number(self.commands - before.commands) / steps,
            redis_us: (self.cpu_us - before.cpu_us) / steps,
            floor_us: None,
        }
    }
}

fn calls(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    Some((name, rest.split(',').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_the_look_itself_is_not() {
        let info = "used_cpu_sys:0.5\r\nused_cpu_user:1.5\r\nused_cpu_sys_children:9\r\n\
                    cmdstat_fcall:calls=10,usec=5\r\ncmdstat_hset:calls=20,usec=5\r\n\
                    cmdstat_config|get:calls=3,usec=1\r\ncmdstat_info:calls=7,usec=1\r\n";
        let usage = Usage::parse(info);
        assert_eq!(usage, Usage { fcalls: 10, commands: 23, cpu_us: 2_000_000.0 });
        let cost = usage.per_step(Usage::default(), 10);
        assert_eq!(cost, Cost { fcalls: 1.0, commands: 2.3, redis_us: 200_000.0, floor_us: None });
    }
}
