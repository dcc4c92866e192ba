for (const block of document.querySelectorAll(".by-class")) {
  const choice = block.querySelector("select");
  const frame = { left: 52, right: 446, top: 14, bottom: 200 };
  // a byte a point: 0 to 250 are the heights from 0 to 1, 255 is none
  const path = (bytes) => {
    let pen = "M";
    let drawn = "";
    bytes.forEach((byte, place) => {
      if (byte === 255) { pen = "M"; return; }
      const x = frame.left + (place / (bytes.length - 1)) * (frame.right - frame.left);
      const y = frame.bottom - (byte / 250) * (frame.bottom - frame.top);
      drawn += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    });
    return drawn;
  };
  const show = () => {
    const option = choice.selectedOptions[0];
    block.querySelector("span").textContent = option.dataset.facts;
    const packs = option.dataset.curves.split(" ");
    block.querySelectorAll("svg").forEach((drawing, number) => {
      const lines = drawing.querySelectorAll("path");
      const bytes = Uint8Array.from(atob(packs[number]), (letter) => letter.charCodeAt(0));
      const points = bytes.length / lines.length;
      lines.forEach((line, i) => line.setAttribute("d", path([...bytes.slice(i * points, (i + 1) * points)])));
    });
  };
  choice.addEventListener("change", show);
  block.hidden = false;
  show();
}

for (const search of document.querySelectorAll(".search")) {
  const rows = [...search.parentElement.querySelectorAll("table.sortable tbody tr")];
  const field = search.querySelector("input");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      count += row.hidden ? 0 : 1;
    }
    search.querySelector("span").textContent = wanted ? `${count} of ${rows.length}` : "";
  });
  search.hidden = false;
}
