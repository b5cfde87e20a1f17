//! A Rust Worker that only forwards every request and returns the response: a baseline of the
//! benchmark.

use js_sys::futures::JsFuture;
use wasm_bindgen::JsCast;
use web_sys::{Request, RequestInit, Response, Url, WorkerGlobalScope};
use worker::{Context, Env, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    let url = Url::new(&request.url())?;
    let target = format!("{}{}{}", env.var("ORIGIN")?, url.pathname(), url.search());
    let init: &RequestInit = request.unchecked_ref();
    let request = Request::new_with_str_and_init(&target, init)?;
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    Ok(JsFuture::from(scope.fetch_with_request(&request)).await?.unchecked_into())
}
