// Draws the charts and sorts the tables of a report.
"use strict";

{ // a block, because Vega's script defines short names at the top level
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  /** Return Vega's colours for the colour scheme of the page. The categories are those of Okabe and Ito. */
  function config() {
    const [text, quiet, line] = dark.matches ? ["#e8eaed", "#a7b0ba", "#3a424b"] : ["#1c2024", "#59616b", "#d5d9de"];
    const categories = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", text, "#8C7B6B"];
    if (dark.matches) {
      categories[0] = "#4DA3E0";
    }
    return {
      background: "transparent",
      font: "system-ui, 'Liberation Sans', sans-serif",
      view: { stroke: line },
      axis: { labelColor: quiet, titleColor: text, gridColor: line, domainColor: quiet, tickColor: quiet, labelLimit: 260 },
      legend: { labelColor: text, titleColor: text, labelLimit: 260 },
      header: { labelColor: text, titleColor: text },
      title: { color: text, subtitleColor: quiet },
      text: { color: text },
      rule: { color: quiet },
      range: { category: categories },
    };
  }

  function draw() {
    for (const figure of document.querySelectorAll("figure")) {
      const chart = figure.querySelector(".chart > div"); // Vega would change the style of .chart, which scrolls
      const title = figure.querySelector("figcaption").textContent;
      const spec = JSON.parse(figure.querySelector("script").textContent);
      spec.description = figure.querySelector(".description").textContent; // read out in place of the picture
      vegaEmbed(chart, spec, {
        actions: { export: true, source: false, compiled: false, editor: false },
        ast: true,
        config: config(),
        downloadFileName: figure.id,
        renderer: "svg",
        tooltip: { theme: dark.matches ? "dark" : "light" },
      }).then(() => {
        chart.querySelector("summary").setAttribute("aria-label", `Save the chart: ${title}`);
      }).catch((error) => {
        chart.textContent = `This chart cannot be drawn: ${error}`;
      });
    }
  }

  /** Return the value by which a cell is sorted: a number, a text, or null for an empty cell. */
  function order(row, column) {
    const value = row.cells[column].dataset.order;
    if (value === undefined) {
      return null;
    }
    return value.trim() !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
  }

  function compare(one, other, descending) {
    if (one === null || other === null) {
      return (one === null) - (other === null); // empty cells come last in both directions
    }
    const result = typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), undefined, { numeric: true });
    return descending ? -result : result;
  }

  function sort(table, column) {
    const headers = [...table.tHead.rows[0].cells];
    const descending = headers[column].getAttribute("aria-sort") === "ascending";
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => compare(order(one, column), order(other, column), descending));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("th button").forEach((button, column) => {
      button.addEventListener("click", () => sort(table, column));
    });
  }
  dark.addEventListener("change", draw);
  draw();
}
