// As s3-ingestor takes it: a function of the name and the settings, exported as the module.
module.exports = function (filename, settings) {
  var found = /^(.*\/)?([A-Z]+)-(\d{4})(\d\d)(\d\d)\.csv$/.exec(filename);
  if (!found) return null;
  return [settings.site, found[2].toLowerCase(), found[3], found[4], found[5]].join('/') + '.csv';
};
