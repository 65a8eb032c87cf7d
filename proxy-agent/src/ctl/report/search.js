"use strict";
(() => {
  const field = document.getElementById("search");
  const said = document.getElementById("found");
  const rows = [...document.querySelectorAll("[data-row]")];
  // A row of a Service is found by the Service's name, too.
  const text = (row) => {
    const around = row.parentElement.closest("details[data-row]");
    return (row.textContent + " " + (around ? around.firstElementChild.textContent : "")).toLowerCase();
  };
  const texts = rows.map(text);
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, place) => {
      const found = words.every((word) => texts[place].includes(word));
      row.hidden = !found;
      count += found ? 1 : 0;
      if (row.tagName === "DETAILS") row.open = found && words.length > 0;
    });
    said.textContent = words.length ? `${count} of ${rows.length} entries` : "";
  };
  field.addEventListener("input", show);
  field.form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("finder").hidden = false;
  // report.html?find=web can be passed on.
  field.value = new URLSearchParams(location.search).get("find") ?? "";
  if (field.value) show();
})();
