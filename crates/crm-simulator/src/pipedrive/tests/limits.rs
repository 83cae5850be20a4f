//! Prices, the daily budget and the burst limits, on the company's clock.

use reqwest::{Method, Response, header::HeaderMap};
use serde_json::json;

use super::Server;
use crate::pipedrive::RateLimits;

fn number(headers: &HeaderMap, name: &str) -> u32 {
    headers[name].to_str().unwrap().parse().unwrap()
}

async fn list(server: &Server) -> Response {
    server.send(Method::GET, "/api/v2/persons", None).await
}

#[tokio::test]
async fn requests_cost_what_pipedrive_says() {
    let server = Server::start().await;
    let (first, second) = (server.create("Ann", "1"), server.create("Bob", "2"));
    let mut used = 0;
    for (method, path, body, price) in [
        (Method::GET, format!("/api/v2/persons/{first}"), json!({}), 1),
        (Method::GET, "/api/v2/persons".to_owned(), json!({}), 10),
        (Method::GET, "/api/v2/persons/search?term=ann".to_owned(), json!({}), 20),
        (Method::GET, "/v1/recents?since_timestamp=2026-01-01%2000:00:00".to_owned(), json!({}), 20),
        (Method::POST, "/api/v2/persons".to_owned(), json!({"name": "Eve"}), 5),
        (Method::PATCH, format!("/api/v2/persons/{first}"), json!({}), 5),
        (Method::PUT, format!("/api/v1/persons/{first}/merge"), json!({"merge_with_id": second}), 40),
        (Method::DELETE, format!("/api/v2/persons/{second}"), json!({}), 3),
    ] {
        assert!(server.send(method, &path, Some(&body)).await.status().is_success(), "{path}");

        used += price;
        assert_eq!(server.pipedrive.daily_tokens_used(), used, "{path}");
    }
}

/// Headers are sent without limits, too, and do not count down then.
#[tokio::test]
async fn headers_come_without_limits_and_never_count_down() {
    let server = Server::start().await;
    list(&server).await;

    let headers = list(&server).await.headers().clone();

    assert_eq!((number(&headers, "x-ratelimit-limit"), number(&headers, "x-ratelimit-remaining")), (20, 20));
    assert_eq!(number(&headers, "x-ratelimit-reset"), 2);
    assert_eq!(number(&headers, "x-daily-ratelimit-token-limit"), 30_000);
    assert_eq!(number(&headers, "x-daily-ratelimit-token-remaining"), 30_000);
}

#[tokio::test]
async fn burst_is_over_when_two_seconds_have_runed() {
    let limits = RateLimits { burst_api_token: Some(2), ..RateLimits::default() };
    let server = Server::start_with(|config| config.limits = limits).await;
    list(&server).await;
    server.advance_millis(500);
    list(&server).await;

    let refused = list(&server).await;

    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(number(refused.headers(), "x-ratelimit-remaining"), 0);
    assert_eq!(number(refused.headers(), "x-ratelimit-reset"), 2);
    assert!(number(refused.headers(), "x-daily-ratelimit-token-remaining") > 0);
    assert_eq!(server.pipedrive.daily_tokens_used(), 20, "a refused request costs nothing");
    server.advance_millis(1_500);
    assert_eq!(list(&server).await.status().as_u16(), 200);
    assert_eq!(list(&server).await.status().as_u16(), 429);
}

#[tokio::test]
async fn searches_have_a_limit_of_their_own() {
    let limits = RateLimits { burst_search: Some(1), ..RateLimits::default() };
    let server = Server::start_with(|config| config.limits = limits).await;
    let search = async || server.send(Method::GET, "/api/v2/persons/search?term=ann", None).await.status().as_u16();

    assert_eq!((search().await, search().await), (200, 429));
    assert_eq!(list(&server).await.status().as_u16(), 200);
}

/// A spent day is told by its own header and ends at midnight.
#[tokio::test]
async fn spent_day_has_own_header_ends_at_midnight() {
    let limits = RateLimits { daily_tokens: Some(25), ..RateLimits::default() };
    let server = Server::start_with(|config| config.limits = limits).await;
    list(&server).await;
    assert_eq!(number(list(&server).await.headers(), "x-daily-ratelimit-token-remaining"), 5);

    let refused = list(&server).await;

    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(number(refused.headers(), "x-daily-ratelimit-token-remaining"), 0);
    assert_eq!(number(refused.headers(), "x-ratelimit-reset"), 35_200);
    server.advance(35_200);
    assert_eq!(list(&server).await.status().as_u16(), 200);
}
