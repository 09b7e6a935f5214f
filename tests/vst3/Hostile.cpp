// Plugins that behave badly, one from each value of HOSTILE_KIND; otherwise a gain in dB, transparent at 0 dB.
#include "DistrhoPlugin.hpp"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <unistd.h>
#include <vector>

enum Kind { kCrasher = 1, kSleeper, kNanner, kLoadHang, kLatent, kLoadCrash };

static constexpr int kKind = HOSTILE_KIND;
static constexpr uint32_t kDelay = 2048;         // Latent: what it reports and what it really delays by
static constexpr uint32_t kCrashAt = 1000;       // Crasher: in this process call
static constexpr uint32_t kNanFrom = 200;        // Nanner: from this process call on, until it is activated again
static constexpr useconds_t kSleepUs = 200000;   // Sleeper: in each process call

START_NAMESPACE_DISTRHO

class Hostile : public Plugin {
public:
    Hostile() : Plugin(1, 0, 0), fDelay{std::vector<float>(kDelay), std::vector<float>(kDelay)}
    {
        if (kKind == kLoadCrash)
            std::abort();
        while (kKind == kLoadHang)
            sleep(1);
        if (kKind == kLatent)
            setLatency(kDelay);
    }

protected:
    const char* getLabel() const override { return DISTRHO_PLUGIN_NAME; }
    const char* getMaker() const override { return DISTRHO_PLUGIN_BRAND; }
    const char* getLicense() const override { return "MIT"; }
    uint32_t getVersion() const override { return d_version(1, 0, 0); }
    int64_t getUniqueId() const override { return d_cconst('S', 'r', 'H', '0' + kKind); }

    void initParameter(uint32_t, Parameter& parameter) override
    {
        parameter.hints = kParameterIsAutomatable;
        parameter.name = "Level";
        parameter.symbol = "level";
        parameter.unit = "dB";
        parameter.ranges.def = 0.0f;
        parameter.ranges.min = -60.0f;
        parameter.ranges.max = 12.0f;
    }

    float getParameterValue(uint32_t) const override { return fLevelDb; }

    void setParameterValue(uint32_t, float value) override
    {
        fLevelDb = value;
        // A host hands values over as fractions of the range: 0 dB comes back a rounding error away from it.
        fGain = std::fabs(value) < 1e-4f ? 1.0f : std::pow(10.0f, value / 20.0f);
    }

    void activate() override
    {
        if (kKind != kCrasher)  // it crashes whether or not it was reset before
            fCalls = 0;
        fAt = 0;
        for (std::vector<float>& line : fDelay)
            line.assign(kDelay, 0.0f);
    }

    void run(const float** inputs, float** outputs, uint32_t frames) override
    {
        ++fCalls;
        if (kKind == kCrasher && fCalls == kCrashAt)
            std::abort();
        if (kKind == kSleeper)
            usleep(kSleepUs);
        const bool bad = kKind == kNanner && fCalls >= kNanFrom;
        for (uint32_t i = 0; i < frames; ++i)
        {
            for (int c = 0; c < 2; ++c)
            {
                const float x = inputs[c][i] * fGain;
                float y = bad ? std::numeric_limits<float>::quiet_NaN() : x;
                if (kKind == kLatent)
                {
                    y = fDelay[c][fAt];
                    fDelay[c][fAt] = x;
                }
                outputs[c][i] = y;
            }
            if (++fAt == kDelay)
                fAt = 0;
        }
    }

private:
    float fLevelDb = 0.0f;
    float fGain = 1.0f;
    uint32_t fCalls = 0;
    uint32_t fAt = 0;
    std::vector<float> fDelay[2];

    DISTRHO_DECLARE_NON_COPYABLE_WITH_LEAK_DETECTOR(Hostile)
};

Plugin* createPlugin() { return new Hostile(); }

END_NAMESPACE_DISTRHO
