"use strict";

// Starts Swagger UI. The token comes with the address and must not stay there: it would be
// kept in the history and be seen over a shoulder.
(() => {
  const address = new URL(window.location.href);
  const token = address.searchParams.get("token");
  address.searchParams.delete("token");
  window.history.replaceState(null, "", address.pathname + address.search + address.hash);

  const signed = (request) => {
    const target = new URL(request.url, window.location.href);
    if (token !== null && target.origin === window.location.origin) {
      request.headers = { ...request.headers, Authorization: `Bearer ${token}` };
    }
    return request;
  };

  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#docs",
    requestInterceptor: signed,
    validatorUrl: null,
  });
})();
