"use strict";
// what went wrong is written where a test, and a person with the inspector open, can read it
const page = document.documentElement;
page.dataset.errors = "0";
const count = () => { page.dataset.errors = String(Number(page.dataset.errors) + 1); };
addEventListener("error", count, true);
document.addEventListener("securitypolicyviolation", count);

addEventListener("load", () => {
  const pictures = [...document.querySelectorAll("main img")];
  const shown = pictures.filter((picture) => picture.complete && picture.naturalWidth > 0);
  page.dataset.pictures = `${shown.length}/${pictures.length}`;
});

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => head.addEventListener("click", () => {
    const text = column === 0;
    const direction = head.ariaSort === "descending" || (text && head.ariaSort !== "ascending") ? 1 : -1;
    const key = (row) => (text ? row.cells[0].textContent : Number(row.cells[column].dataset.value));
    const order = (a, b) => (text ? a.localeCompare(b) : a - b);
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.ariaSort = direction === 1 ? "ascending" : "descending";
    [...body.rows].sort((a, b) => direction * order(key(a), key(b))).forEach((row) => body.append(row));
  }));
}

const enlarged = document.getElementById("enlarged");
document.addEventListener("click", (event) => {
  const button = event.target.closest(".shots button");
  if (!button) return;
  const from = button.querySelector("img");
  const to = enlarged.querySelector("img");
  to.src = from.src;
  to.alt = from.alt;
  to.className = button.closest(".shots").classList.contains("small") ? "small" : "";
  enlarged.showModal();
});
