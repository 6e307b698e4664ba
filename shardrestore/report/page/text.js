/* Words and numbers, and the elements that hold them. */

const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = ["attention", "mlp", "norm", "embedding", "other"];
const ORDER = { top: "most changed", bottom: "least changed", random: "random" };

const at = (id) => document.getElementById(id);

/** Make an element; whatever comes from a model is text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const count = (number) => number.toLocaleString("en-US");
const trim = (text) => text.replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "");

function score(value) {
  if (value === null) return "not finite";
  if (value >= 1000 && value < 1e6) return count(Number(value.toPrecision(3)));
  if (value === 0 || (value >= 0.001 && value < 1000)) return trim(value.toPrecision(3));
  return trim(value.toExponential(2)).replace("e+", "e");
}

function share(part, whole = 1) {
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.01) return `${percent.toPrecision(1)} %`;
  return `${percent.toFixed(2)} %`;
}

function bytes(size) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${unit === "B" ? size : size.toFixed(1)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

const memory = (size) => `${count(Math.ceil(size / 2 ** 20))} MiB`;
