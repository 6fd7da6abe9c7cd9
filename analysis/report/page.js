"use strict";

const form = document.getElementById("filters");
const claims = [...document.querySelectorAll(".claim")];
const words = new Map(claims.map((claim) => [claim, claim.textContent.toLowerCase()]));

function filter() {
  const { text, ...wanted } = Object.fromEntries(new FormData(form));
  const terms = text.toLowerCase().split(/\s+/);
  for (const claim of claims) {
    const chosen = Object.entries(wanted).every(([name, value]) => !value || claim.dataset[name] === value);
    claim.hidden = !(chosen && terms.every((term) => words.get(claim).includes(term)));
  }
  for (const section of document.querySelectorAll(".family")) {
    section.hidden = !section.querySelector(".claim:not([hidden])");
  }
  const shown = claims.filter((claim) => !claim.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${claims.length} claims`;
}

// A link to a claim or figure opens whatever it lies in, and takes back a filter that hides it.
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest("[hidden]")) {
    form.reset();
    filter();
  }
  for (let place = target; place; place = place.parentElement) {
    if (place.tagName === "DETAILS") place.open = true;
  }
  target.scrollIntoView();
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
// The fields are reset after their event.
form.addEventListener("reset", () => setTimeout(filter));
document.getElementById("unfold").addEventListener("click", () => {
  for (const claim of claims) claim.open ||= !claim.hidden;
});
document.getElementById("fold").addEventListener("click", () => {
  for (const claim of claims) claim.open = false;
});
addEventListener("hashchange", follow);
filter();
follow();

// Paper cannot unfold anything: print with all details open, then put them back.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
});
