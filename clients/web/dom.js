// Elements in one call.

/** An element: properties starting with a dash become CSS variables, `on` holds listeners, null is left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name.startsWith("--")) made.style.setProperty(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Set an attribute only where it changes: screen readers hear less. */
export function setAttribute(target, name, value) {
  if (target.getAttribute(name) !== String(value)) target.setAttribute(name, value);
}

/** Set text only where it changes. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Give a list these children in this order: those that stay are moved only where they must be, and the focus
 * stays where it was. instead(index): what takes the focus of a child that goes, by its place.
 */
export function arrange(list, children, instead) {
  const active = document.activeElement;
  const held = list.contains(active) ? [...list.children].findIndex((child) => child.contains(active)) : -1;
  for (const child of [...list.children]) if (!children.includes(child)) child.remove();
  children.forEach((child, i) => {
    if (list.children[i] !== child) list.insertBefore(child, list.children[i] ?? null);
  });
  if (held < 0 || document.activeElement === active) return;
  const target = active.isConnected ? active : instead(held);
  target?.focus({ preventScroll: true });
}
