// Shows the OpenAPI description that the page holds. The policy of the page allows no other script.
const place = document.getElementById("viewer");
if (globalThis.SwaggerUIBundle) {
  SwaggerUIBundle({
    domNode: place,
    spec: JSON.parse(document.getElementById("description").textContent),
    deepLinking: true,
    validatorUrl: null,
  });
} else {
  place.textContent =
    "The viewer is not installed on the server: run pip install -r requirements.txt there. " +
    "The description itself is at schema/openapi.json.";
}
