import { expect, it } from "vitest";
import { MetricsPage } from "../../src/serve/metrics.js";

it("writes counters, gauges and histograms as Prometheus reads them", () => {
  const page = new MetricsPage();
  const requests = page.counter("requests_total", "Requests.");
  requests.add(1, { route: "/a", status: "200" });
  requests.add(2, { route: "/a", status: "200" });
  requests.add(1, { route: 'quote " slash \\ line\n', status: "404" });
  page.gauge("running", "Running.", () => 3);
  const seconds = page.histogram("seconds", "Seconds.", [0.1, 1]);
  for (const value of [0.05, 0.1, 0.5, 7]) seconds.observe(value);
  expect(page.text).toBe(
    [
      ...["# HELP requests_total Requests.", "# TYPE requests_total counter"],
      ...['requests_total{route="/a",status="200"} 3', 'requests_total{route="quote \\" slash \\\\ line\\n",status="404"} 1'],
      ...["# HELP running Running.", "# TYPE running gauge", "running 3"],
      ...["# HELP seconds Seconds.", "# TYPE seconds histogram"],
      ...['seconds_bucket{le="0.1"} 2', 'seconds_bucket{le="1"} 3', 'seconds_bucket{le="+Inf"} 4', "seconds_sum 7.65", "seconds_count 4"],
      "",
    ].join("\n"),
  );
});
