// Builds elements without ever parsing markup: whatever people type stays text.

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [props] attributes; `on…` are listeners, `false`, `null` and `undefined` are left out
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  set(element, props);
  for (const child of children) if (child) element.append(child);
  return element;
}

/**
 * @param {Element} element
 * @param {Record<string, any>} props
 */
export function set(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value))
      element.setAttribute(name, value === true ? "" : value);
  }
}

/**
 * Makes `parent`'s children be exactly `wanted`, moving as few as possible so that focus and selection survive.
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * A line icon, drawn from path data in a 24 × 24 box.
 * @param {keyof typeof PATHS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  set(svg, { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" });
  const path = document.createElementNS(SVG, "path");
  set(path, { d: PATHS[name] });
  svg.append(path);
  return svg;
}

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  people:
    "M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7ZM2.500 20c.4-3.400 3-5.500 6.500-5.500s6.100 2.100 6.500 5.500M16 4.300a3.500 3.500 0 0 1 0 6.400M18 14.900c2 .7 3.300 2.400 3.500 5.100",
  send: "M5 12h13M12 5.500l6.500 6.500-6.500 6.500",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  leave:
    "M14 4H6.500A1.500 1.500 0 0 0 5 5.500v13A1.500 1.500 0 0 0 6.500 20H14M10.500 12H20M16.500 8.500 20 12l-3.500 3.500",
  down: "M6 9l6 6 6-6",
  search: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13ZM15.500 15.500 20 20",
};
