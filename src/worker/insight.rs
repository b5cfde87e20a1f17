//! `/_hedgerow/v1/series`, `…/decisions` and `…/live`: what traffic does, over time and request by request;
//! from all objects of the ledger.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use web_sys::{Headers, Request, RequestInit, Response, UrlSearchParams};

use crate::admin;
use crate::api::ApiError;
use crate::clock::{self, in_time};
use crate::error::{json_response, json_text};
use crate::intake::Arrival;
use crate::ledger::{Found, MOST, MOST_TOLD};
use crate::outbox::shard_name;
use crate::series::{Series, Steps};
use crate::settings::Settings;
use crate::status;
use crate::{mac, tag};

/// Minutes that are told unless others are asked for.
const MINUTES: u64 = 60;

/// The protocol that a browser has to be answered.
pub const PROTOCOL: &str = "hedgerow.v1";

/// Counts over time.
pub async fn series(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    let minutes = status::minutes(arrival)?.unwrap_or(MINUTES);
    let steps = Steps::of_last(minutes, clock::seconds());
    let target = format!("/series?{}", steps.query());
    let mut sum = Series::default();
    for one in status::ask_all::<Series>(settings, &target).await.ok_or_else(silent)? {
        sum.gather(one);
    }
    Ok(json_response(200, &sum.json(&steps, minutes)))
}

/// The last decisions, newest first.
pub async fn decisions(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Told {
        decisions: Vec<Box<RawValue>>,
        kept: usize,
        most: usize,
    }
    let (limit, target) = question(arrival)?;
    let mut all: Vec<(f64, Box<RawValue>)> = Vec::new();
    let (mut kept, mut most) = (0, 0);
    for one in status::ask_all::<Found>(settings, &target).await.ok_or_else(silent)? {
        kept += one.kept;
        most += MOST;
        all.extend(one.decisions);
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(limit);
    let told = Told { decisions: all.into_iter().map(|(_, text)| text).collect(), kept, most };
    Ok(json_text(200, &serde_json::to_string(&told).unwrap_or_default()))
}

/// What is asked for, made anew: each parameter once, as it was checked.
fn question(arrival: &Arrival) -> Result<(usize, String), ApiError> {
    let (_, query) = arrival.target().split_once('?').unwrap_or_default();
    let given = UrlSearchParams::new_with_str(query).map_err(|_| silent())?;
    let limit = given.get("limit").map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=MOST_TOLD).contains(limit)).ok_or_else(|| {
        let remedy = format!("give a whole number from 1 to {MOST_TOLD}, or leave it out");
        ApiError::new(400, "invalid", "'limit' is no number of decisions", remedy)
    })?;
    let own = UrlSearchParams::new().map_err(|_| silent())?;
    own.append("limit", &limit.to_string());
    for name in FILTERS {
        if let Some(value) = given.get(name) {
            own.append(name, &value);
        }
    }
    Ok((limit, format!("/decisions?{}", String::from(own.to_string()))))
}

const FILTERS: [&str; 10] =
    ["band", "action", "signature", "account", "cluster", "model", "colo", "id", "since", "until"];

/// Decisions that are told at once, unless others are asked for.
const DEFAULT_LIMIT: usize = 100;

/// What lets a browser's WebSocket in, which cannot set `Authorization`: it stands among the protocols,
/// where logs may show it, and so is good for little, and not for long.
pub fn ticket(secret: &str) -> Option<Value> {
    let expires = clock::seconds() + TICKET;
    Some(json!({ "ticket": signed(secret, expires)?, "expires": expires }))
}

/// Whether a ticket is one of ours, and still good.
pub fn is_ticket(secret: &str, ticket: &str) -> bool {
    let expires = ticket.split_once('.').and_then(|(expires, _)| expires.parse::<u64>().ok());
    let is_good = |expires: &u64| (clock::seconds()..=clock::seconds() + TICKET).contains(expires);
    let own = expires.filter(is_good).and_then(|expires| signed(secret, expires));
    own.is_some_and(|own| mac::is_same(&own, ticket))
}

fn signed(secret: &str, expires: u64) -> Option<String> {
    let mac = mac::hex(secret, format!("live\0{expires}").as_bytes(), 16)?;
    Some(format!("{expires}.{mac}"))
}

/// Seconds for which a ticket is good.
const TICKET: u64 = 30;

/// A WebSocket that says whenever there is something new: that of the first object, which is the only
/// one unless LEDGER_SHARDS says otherwise.
pub async fn live(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    if !arrival.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
        let remedy = "connect by WebSocket; a browser with the protocols `hedgerow.v1` and `ticket.` and what /live/ticket gave";
        return Err(ApiError::new(426, "upgrade", "this path is a WebSocket's", remedy));
    }
    let ledger = settings.ledger().ok_or_else(silent)?;
    let stub = ledger.get_by_name(&shard_name(0)).map_err(|_| silent())?;
    let request = Headers::new().and_then(|headers| {
        tag::set(&headers, "upgrade", "websocket");
        if arrival.header("sec-websocket-protocol").is_some() {
            tag::set(&headers, "sec-websocket-protocol", PROTOCOL);
        }
        let init = RequestInit::new();
        init.set_headers(&headers);
        Request::new_with_str_and_init("https://ledger/live", &init)
    });
    let request = request.map_err(|_| silent())?;
    let answer = in_time(stub.fetch_with_request(request.into()), admin::PATIENCE).await;
    let answer = answer.and_then(Result::ok).filter(|answer| answer.status_code() == 101);
    answer.map(Response::from).ok_or_else(silent)
}

fn silent() -> ApiError {
    let remedy =
        "try again; traffic is decided and counted all the same, and reported when it answers";
    ApiError::new(503, "unavailable", "the ledger does not answer", remedy)
}
