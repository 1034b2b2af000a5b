// Texts in the language of the page.

// The text of a key. Names in braces are replaced by their values. Where a text has plural forms, `number` decides.
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
