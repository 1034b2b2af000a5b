// Texts in the language of the page.

// Gives the text of a key. Names in braces are replaced by their values. Where a text has plural forms, `number` decides.
export function translator(texts, language) {
  const rules = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  return (key, values = {}) => {
    const text = texts[key];
    const form = typeof text === "string" ? text : (text[rules.select(values.number)] ?? text.other);
    return form.replace(/\{(\w+)\}/g, (_, name) => {
      const value = values[name];
      return typeof value === "number" ? numbers.format(value) : value;
    });
  };
}

const texts = JSON.parse(document.body.dataset.texts);
export const text = translator(texts, document.documentElement.lang);

// What to say of a request that was refused with a status. 0: the server cannot be reached.
export const problemText = (status) => text(`problem_${status}` in texts ? `problem_${status}` : "problem_other");
