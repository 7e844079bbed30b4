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
export type PageView = () => void;

/** Script time of a frame after which the views that are left wait for the next one. */
const FRAME_MS = 3;

/** Draws views at most once a frame, in the order in which they were asked for, a few milliseconds' worth a frame. */
export class Frames {
  readonly #views = new Set<PageView>();
  /** Drawn before: the first time, a view builds what it has and takes the longest, so that gets a frame of its own. */
  readonly #known = new Set<PageView>();
  #scheduled = false;

  /** The frame at hand is left to what asks: messages take their time, too. */
  request(view: PageView): void {
    this.#views.add(view);
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => requestAnimationFrame(() => this.#draw()));
  }

  #draw(): void {
    const begin = performance.now();
    let drawn = 0;
    for (const view of [...this.#views]) {
      const isNew = !this.#known.has(view);
      if (drawn > 0 && (isNew || performance.now() > begin + FRAME_MS)) break;
      this.#views.delete(view);
      this.#known.add(view);
      view();
      drawn++;
      if (isNew) break;
    }
    this.#scheduled = this.#views.size > 0;
    if (this.#scheduled) requestAnimationFrame(() => this.#draw());
  }
}
