//! What requests cost, and the two limits on them: tokens a day for the company, requests within
//! two seconds for a token. Owns: prices, windows, the headers that tell of them. Both limits are
//! off unless set; the headers are always sent, and tell the limits of Pipedrive's cheapest plan
//! then. Times are of the company's clock.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use axum::http::{HeaderName, Method};
use chrono::{DateTime, Utc};

use super::refusal::{DAILY_REMAINING, PipedriveRefusal, REMAINING, RESET};
use crate::{call::ApiCall, reply::VendorReply};

/// Said in headers while there is no limit: one seat of the plan Lite.
const DAILY_TOKENS: u32 = 30_000;
const BURST_API_TOKEN: u32 = 20;
const BURST_OAUTH: u32 = 80;
/// The burst window, milliseconds.
const BURST_MS: i64 = 2_000;
/// Requests of one window that are remembered.
const REMEMBERED_MAX: usize = 10_000;
const DAY_SECONDS: i64 = 86_400;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const DAILY_LIMIT: HeaderName = HeaderName::from_static("x-daily-ratelimit-token-limit");

/// The limits of a company; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Tokens a day, from midnight UTC. 30,000 for each seat of the plan Lite.
    pub daily_tokens: Option<u32>,
    /// Requests with the API token within two seconds. 20 on the plan Lite.
    pub burst_api_token: Option<u32>,
    /// Requests with OAuth tokens within two seconds. 80 on the plan Lite.
    pub burst_oauth: Option<u32>,
    /// Searches within two seconds. 10 on every plan.
    pub burst_search: Option<u32>,
}

/// With what a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    ApiToken,
    OAuth,
}

#[derive(Default)]
struct Used {
    day: i64,
    tokens: u32,
    api_token: VecDeque<i64>,
    oauth: VecDeque<i64>,
    search: VecDeque<i64>,
}

/// What was used of the limits.
#[derive(Default)]
pub(super) struct Budget {
    used: Mutex<Used>,
}

impl Budget {
    /// Takes a request's price, or says why it must wait. A refused request costs nothing.
    pub(super) fn take(
        &self,
        limits: RateLimits,
        credential: Credential,
        call: &ApiCall,
        now: DateTime<Utc>,
    ) -> Result<(), PipedriveRefusal> {
        let used = &mut *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn_to(now);
        let is_search = call.segments().last() == Some(&"search");
        let (window, limit) = match credential {
            Credential::ApiToken => (&mut used.api_token, limits.burst_api_token),
            Credential::OAuth => (&mut used.oauth, limits.burst_oauth),
        };
        check_burst(window, limit, now)?;
        if is_search {
            check_burst(&used.search, limits.burst_search, now)?;
        }
        let price = price_of(call);
        if limits.daily_tokens.is_some_and(|limit| used.tokens.saturating_add(price) > limit) {
            return Err(PipedriveRefusal::DailyLimited { reset_seconds: seconds_to_midnight(now) });
        }
        used.tokens = used.tokens.saturating_add(price);
        remember(window, now);
        if is_search {
            remember(&mut used.search, now);
        }
        Ok(())
    }

    /// Tells of both limits in headers; what a refusal has said stays.
    pub(super) fn add_headers(
        &self,
        reply: &mut VendorReply,
        limits: RateLimits,
        credential: Option<Credential>,
        now: DateTime<Utc>,
    ) {
        let used = &mut *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn_to(now);
        let (window, limit, shown) = match credential {
            Some(Credential::OAuth) => (&used.oauth, limits.burst_oauth, BURST_OAUTH),
            _ => (&used.api_token, limits.burst_api_token, BURST_API_TOKEN),
        };
        // Without a limit nothing counts down: a client must not slow down for nothing.
        let left = |limit: Option<u32>, shown, used| limit.map_or(shown, |limit| limit.saturating_sub(used));
        let in_window = u32::try_from(window.len()).unwrap_or(u32::MAX);
        let mut set = |name: HeaderName, value: u32| {
            if !reply.headers.iter().any(|(present, _)| *present == name) {
                reply.set_header(name, &value.to_string());
            }
        };
        set(LIMIT, limit.unwrap_or(shown));
        set(REMAINING, left(limit, shown, in_window));
        set(RESET, reset_seconds(window, now));
        set(DAILY_LIMIT, limits.daily_tokens.unwrap_or(DAILY_TOKENS));
        set(DAILY_REMAINING, left(limits.daily_tokens, DAILY_TOKENS, used.tokens));
    }

    /// Tokens used since midnight.
    pub(super) fn tokens_used(&self, now: DateTime<Utc>) -> u32 {
        let used = &mut *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn_to(now);
        used.tokens
    }
}

impl Used {
    /// Forgets what lies before today, and before the last two seconds.
    fn turn_to(&mut self, now: DateTime<Utc>) {
        let day = now.timestamp().div_euclid(DAY_SECONDS);
        if day != self.day {
            (self.day, self.tokens) = (day, 0);
        }
        let oldest = now.timestamp_millis() - BURST_MS;
        for window in [&mut self.api_token, &mut self.oauth, &mut self.search] {
            while window.front().is_some_and(|at| *at <= oldest) {
                window.pop_front();
            }
        }
    }
}

fn check_burst(window: &VecDeque<i64>, limit: Option<u32>, now: DateTime<Utc>) -> Result<(), PipedriveRefusal> {
    if limit.is_some_and(|limit| window.len() >= limit as usize) {
        return Err(PipedriveRefusal::BurstLimited { reset_seconds: reset_seconds(window, now) });
    }
    Ok(())
}

fn remember(window: &mut VecDeque<i64>, now: DateTime<Utc>) {
    if window.len() >= REMEMBERED_MAX {
        window.pop_front();
    }
    window.push_back(now.timestamp_millis());
}

/// Seconds until the oldest request of the window no longer counts, at least one; two for an empty
/// window.
fn reset_seconds(window: &VecDeque<i64>, now: DateTime<Utc>) -> u32 {
    let free_at = window.front().map_or(now.timestamp_millis(), |at| *at) + BURST_MS;
    let seconds = (free_at - now.timestamp_millis()).max(0).unsigned_abs().div_ceil(1_000);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

pub(super) fn seconds_to_midnight(now: DateTime<Utc>) -> u32 {
    u32::try_from(DAY_SECONDS - now.timestamp().rem_euclid(DAY_SECONDS)).unwrap_or(u32::MAX)
}

/// Pipedrive's prices, in tokens.
fn price_of(call: &ApiCall) -> u32 {
    let segments = call.segments();
    let is_one = segments.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match (&call.method, segments.last().copied()) {
        (&Method::GET, Some("search" | "recents" | "users")) => 20,
        (&Method::GET, Some("me")) => 2,
        (&Method::GET, _) if is_one => 1,
        (&Method::GET, _) => 10,
        (_, Some("merge")) => 40,
        (&Method::DELETE, _) => 3,
        _ => 5,
    }
}
