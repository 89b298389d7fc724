//! Whether to send again, and when.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::RetryLayer;
use crate::engine::entropy::fresh_u64;
use crate::time::{Clock, SystemClock};

impl RetryLayer {
    /// How long to wait before the next try; nothing if this answer is the last.
    pub(super) fn wait_after_answer(
        &self,
        tried: u32,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        if tried >= self.tries || self.is_replayed(headers) {
            return None;
        }
        let said = retry_after(headers);
        match status.as_u16() {
            409 if said.is_some() => {}
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {}
            _ => return None,
        }
        match said {
            Some(wait) => (wait <= self.longest_wait).then_some(wait),
            None => Some(self.own_wait(tried)),
        }
    }

    /// The same where there was no answer.
    pub(super) fn wait_after_failure(&self, tried: u32) -> Option<Duration> {
        (tried < self.tries).then(|| self.own_wait(tried))
    }

    fn is_replayed(&self, headers: &HeaderMap) -> bool {
        let mark = headers.get(&self.replayed_header);
        mark.is_some_and(|mark| mark.as_bytes().eq_ignore_ascii_case(b"true"))
    }

    /// Twice as long each time; by chance up to half of it less, so that clients that failed
    /// together do not come back together.
    fn own_wait(&self, tried: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(tried.saturating_sub(1));
        let wait = self.first_wait.saturating_mul(doubled);
        let wait = wait.min(self.longest_wait);
        let half_by_chance = (fresh_u64() % 1_000) as u32;
        wait - wait / 2 / 1_000 * half_by_chance
    }
}

/// In seconds, or until a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // One that has passed: at once.
    let now = SystemClock::new().now();
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn wait(status: u16, headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        RetryLayer::new().wait_after_answer(1, status, &map)
    }

    #[test]
    fn answers_for_now_are_waited_after_and_others_are_last() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(wait(status, &[]).is_some(), "{status}");
            let replayed = [("idempotency-replayed", "true"), ("retry-after", "1")];
            assert_eq!(wait(status, &replayed), None, "{status}");
        }
        for status in [200, 201, 303, 400, 401, 404, 409, 410, 422, 501] {
            assert_eq!(wait(status, &[]), None, "{status}");
        }
        assert_eq!(wait(400, &[("retry-after", "1")]), None);
        assert_eq!(wait(422, &[("retry-after", "1")]), None);
    }

    #[test]
    fn the_servers_word_counts() {
        let three = Some(Duration::from_secs(3));
        assert_eq!(wait(409, &[("retry-after", "3")]), three);
        assert_eq!(wait(503, &[("retry-after", " 3 ")]), three);
        assert_eq!(wait(503, &[("retry-after", "61")]), None);
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(wait(503, &[("retry-after", past)]), Some(Duration::ZERO));
        let soon = SystemClock::new().now() + Duration::from_secs(30);
        let soon = httpdate::fmt_http_date(soon);
        let until = wait(503, &[("retry-after", &soon)]).unwrap();
        assert!(until <= Duration::from_secs(30), "{until:?}");
        let far = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(wait(503, &[("retry-after", far)]), None);
    }

    #[test]
    fn own_waits_double_up_to_the_longest_and_tries_end() {
        let layer = RetryLayer::new().tries(40);
        for (tried, longest) in [(1, 500), (2, 1_000), (5, 8_000), (20, 60_000), (39, 60_000)] {
            let longest = Duration::from_millis(longest);
            let wait = layer.wait_after_failure(tried).unwrap();
            assert!((longest / 2..=longest).contains(&wait), "{tried} {wait:?}");
        }
        assert_eq!(layer.wait_after_failure(40), None);
    }
}
