//! What is around every route of the API.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use http::{HeaderName, Method, header};
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::ApiError;

/// Forms larger than this are refused, as Go does.
const MAX_FORM_BYTES: usize = 10 << 20;

/// Which pages may send requests from a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Pages of any origin, as with Prometheus and Thanos.
    Anyone,
    SameOrigin,
}

/// Errors in JSON for paths and methods that are not served, a limit on forms, compression and
/// CORS.
pub fn with_layers<S: Clone + Send + Sync + 'static>(routes: Router<S>, cors: Cors) -> Router<S> {
    let routes = routes
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::not_found())
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(CompressionLayer::new());
    match cors {
        Cors::Anyone => routes.layer(anyone()),
        Cors::SameOrigin => routes,
    }
}

fn anyone() -> CorsLayer {
    let allowed: [HeaderName; 5] = [
        header::ACCEPT,
        header::ACCEPT_ENCODING,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ORIGIN,
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers(allowed)
        .expose_headers([header::DATE])
}

/// A prefix of paths as routes need it: `/a/b/` and `a/b` are `/a/b`; `/` is empty.
pub fn normal_prefix(prefix: &str) -> String {
    let inner = prefix.trim_matches('/');
    if inner.is_empty() { String::new() } else { format!("/{inner}") }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_not_served_is_an_error_of_the_api() {
        let routes = with_layers(Router::<()>::new().route("/a", get(async || "a")), Cors::Anyone);
        for (request, status) in [
            (Request::get("/b"), StatusCode::NOT_FOUND),
            (Request::delete("/a"), StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let response =
                routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
            assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        }
        let routes =
            with_layers(Router::<()>::new().route("/a", get(async || "a")), Cors::SameOrigin);
        let response =
            routes.oneshot(Request::get("/a").body(Body::empty()).unwrap()).await.unwrap();
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn prefixes_begin_with_a_slash_and_end_without() {
        for (given, normal) in [("/a/b/", "/a/b"), ("a", "/a"), ("/", ""), ("", "")] {
            assert_eq!(normal_prefix(given), normal);
        }
    }
}
