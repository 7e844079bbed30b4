/** The element with that id. Throws where the page has none: then page and script are not of one build. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element as T;
}

/** Sets a text only where it is another one: the browser then has nothing to lay out. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element: HTMLElement, hidden: boolean): void {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export function setData(element: HTMLElement, name: string, value: string): void {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

export function create<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  element.append(...children);
  return element;
}

/** A view that is drawn with the next frame, however often it is asked for before. */
export type View = () => void;

/** Script time of a frame after which the views that are left wait for the next one. */
const FRAME_MS = 6;

/** Draws views at most once a frame, in the order in which they were asked for, a few milliseconds' worth a frame. */
export class Frames {
  readonly #views = new Set<View>();
  #scheduled = false;

  request(view: View): void {
    this.#views.add(view);
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#scheduled = false;
    const end = performance.now() + FRAME_MS;
    for (const view of [...this.#views]) {
      if (performance.now() > end) break;
      this.#views.delete(view);
      view();
    }
    const [next] = this.#views;
    if (next !== undefined) this.request(next);
  }
}
