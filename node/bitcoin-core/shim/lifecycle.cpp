// Starting and stopping Bitcoin Core: what bitcoind.cpp does, in a process that is not bitcoind.

#include "compat.h"
#include "internal.h"

#include <clientversion.h>
#include <common/args.h>
#include <common/init.h>
#include <common/system.h>
#include <init.h>
#include <interfaces/chain.h>
#include <interfaces/echo.h>
#include <interfaces/init.h>
#include <interfaces/wallet.h>
#include <kernel/checks.h>
#include <kernel/context.h>
#include <key.h>
#include <logging.h>
#include <node/interface_ui.h>
#include <node/kernel_notifications.h>
#include <node/warnings.h>
#include <util/fs_helpers.h>
#include <util/signalinterrupt.h>
#include <util/translation.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <string>
#include <vector>

const TranslateFn G_TRANSLATION_FUN{nullptr};

namespace seam {
namespace {

//! Answers Core's questions about the process it lives in, as bitcoind's own does.
class Init : public interfaces::Init
{
public:
    explicit Init(node::NodeContext& node) : m_node{node}
    {
        InitContext(m_node);
        m_node.init = this;
    }
    std::unique_ptr<interfaces::Node> makeNode() override { return interfaces::MakeNode(m_node); }
    std::unique_ptr<interfaces::Chain> makeChain() override { return interfaces::MakeChain(m_node); }
    std::unique_ptr<interfaces::Mining> makeMining() override { return interfaces::MakeMining(m_node); }
    std::unique_ptr<interfaces::WalletLoader> makeWalletLoader(interfaces::Chain& chain) override
    {
        return MakeWalletLoader(chain, *m_node.args);
    }
    std::unique_ptr<interfaces::Echo> makeEcho() override { return interfaces::MakeEcho(); }

private:
    node::NodeContext& m_node;
};

std::unique_ptr<interfaces::Mining> g_mining;
std::unique_ptr<interfaces::Node> g_interface;

//! Guards what follows. Never held while Core is called.
std::mutex g_mutex;
std::condition_variable g_changed;
bool g_stop_requested{false};
std::string g_errors;
//! Set once Node() may be told to stop, and once its notifications exist for good.
std::atomic<bool> g_initialized{false};
std::atomic<bool> g_running{false};

//! Wakes everything that waits for a tip, so that it sees the shutdown signal.
void WakeWaiters()
{
    if (!g_running) return;
    auto& notifications{*Node().notifications};
    LOCK(notifications.m_tip_block_mutex);
    notifications.m_tip_block_cv.notify_all();
}

bool RequestShutdown()
{
    {
        const std::lock_guard lock{g_mutex};
        g_stop_requested = true;
    }
    g_changed.notify_all();
    // Before seam_start there is no signal to give; it looks at the flag, after g_initialized is set.
    const bool sent{!g_initialized || (*Node().shutdown_signal)()};
    WakeWaiters();
    return sent;
}

//! Core tells of errors through its user interface; they are kept for whoever asks why it stopped.
void ShowMessage(const bilingual_str& message, unsigned int style)
{
    if ((style & CClientUIInterface::ICON_MASK) != CClientUIInterface::ICON_ERROR) {
        LogWarning("%s", message.original);
        return;
    }
    LogError("%s", message.original);
    const std::lock_guard lock{g_mutex};
    // A broken disk repeats itself; the first errors are those that explain.
    if (g_errors.size() > 4096) return;
    if (!g_errors.empty()) g_errors += "; ";
    g_errors += message.original;
}

void ConnectUserInterface()
{
    compat::Connect(
        uiInterface, ShowMessage,
        // The one question Core asks is whether to rebuild a database it cannot read: never unasked.
        [](const std::string& message, unsigned int style) { ShowMessage(Untranslated(message), style); },
        [](const std::string& message) { LogInfo("init message: %s", message); });
}

std::string TakeErrors()
{
    const std::lock_guard lock{g_mutex};
    return std::exchange(g_errors, {});
}

int Fail(int result, const seam_sink& error, std::string_view otherwise)
{
    const std::string errors{TakeErrors()};
    Put(error, errors.empty() ? otherwise : std::string_view{errors});
    return result;
}

bool StopRequested()
{
    const std::lock_guard lock{g_mutex};
    return g_stop_requested;
}

//! Keeps the process's signal handlers while Core installs its own.
class SignalHandlers
{
public:
    SignalHandlers()
    {
        for (size_t i = 0; i < SIGNALS.size(); ++i) sigaction(SIGNALS[i], nullptr, &m_saved[i]);
    }
    ~SignalHandlers()
    {
        for (size_t i = 0; i < SIGNALS.size(); ++i) sigaction(SIGNALS[i], &m_saved[i], nullptr);
    }

private:
    static constexpr std::array SIGNALS{SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    std::array<struct sigaction, SIGNALS.size()> m_saved{};
};

void ShutDown()
{
    g_running = false;
    g_mining.reset();
    g_interface.reset();
    Interrupt(Node());
    Shutdown(Node());
}

int Start(const std::vector<const char*>& argv, seam_log log, const seam_sink& error)
{
    node::NodeContext& node{Node()};
    // Never destroyed, like the node that refers to it.
    new Init{node};
    node.shutdown_request = RequestShutdown;
    g_initialized = true;
    if (StopRequested()) return SEAM_INTERRUPTED;

    SetupEnvironment();
    ConnectUserInterface();
    LogInstance().PushBackCallback(
        [log](const std::string& line) { log(reinterpret_cast<const uint8_t*>(line.data()), line.size()); });

    ArgsManager& args{*node.args};
    SetupServerArgs(args, false);
    std::string message;
    if (!args.ParseParameters(argv.size(), argv.data(), message)) {
        Put(error, std::string_view{message});
        return SEAM_BAD_OPTION;
    }
    if (const auto problem{common::InitConfig(args)}) {
        Put(error, std::string_view{problem->message.original});
        for (const std::string& detail : problem->details) Put(error, std::string_view{"; " + detail});
        return SEAM_BAD_OPTION;
    }
    // The log goes to the caller and to debug.log; standard output is the caller's.
    args.SoftSetBoolArg("-printtoconsole", false);
    InitLogging(args);
    InitParameterInteraction(args);
    {
        const SignalHandlers keep;
        if (!AppInitBasicSetup(args, node.exit_status)) return Fail(SEAM_FAILED, error, "basic setup failed");
    }
    if (!AppInitParameterInteraction(args)) return Fail(SEAM_BAD_OPTION, error, "bad options");

    node.warnings = std::make_unique<node::Warnings>();
    node.kernel = std::make_unique<kernel::Context>();
    node.ecc_context = std::make_unique<ECC_Context>();
    // What AppInitSanityChecks begins with, so that a failure of it means the directory.
    if (!kernel::SanityChecks(*node.kernel)) return Fail(SEAM_FAILED, error, "sanity checks failed");
    if (!AppInitSanityChecks(*node.kernel)) return Fail(SEAM_LOCKED, error, "cannot lock the data directory");
    if (!AppInitLockDirectories()) return Fail(SEAM_LOCKED, error, "cannot lock the data directory");

    bool started{false};
    int result{SEAM_OK};
    try {
        started = AppInitInterfaces(node) && AppInitMain(node);
    } catch (...) {
        // Core has threads by now: they have to be stopped whatever went wrong.
        result = Guarded(error, []() -> int { throw; });
    }
    if (result == SEAM_OK && ShutdownRequested(node)) {
        const std::string errors{TakeErrors()};
        Put(error, std::string_view{errors});
        result = errors.empty() ? SEAM_INTERRUPTED : SEAM_FAILED;
    } else if (result == SEAM_OK && !started) {
        result = Fail(SEAM_FAILED, error, "initialization failed, see debug.log");
    }
    if (result == SEAM_OK) {
        g_mining = interfaces::MakeMining(node);
        g_interface = interfaces::MakeNode(node);
        g_running = true;
        if (g_mining) {
            (void)TakeErrors();
            return SEAM_OK;
        }
        result = SEAM_INTERRUPTED;
    }
    ShutDown();
    return result;
}

} // namespace

node::NodeContext& Node()
{
    static auto* const node{new node::NodeContext};
    return *node;
}
interfaces::Mining& Mining() { return *g_mining; }
interfaces::Node& Interface() { return *g_interface; }

} // namespace seam

int seam_start(const char* const* arguments, size_t count, seam_log log, seam_sink error)
{
    const int result{seam::Guarded(error, [&] {
        return seam::Start(std::vector<const char*>(arguments, arguments + count), log, error);
    })};
    // bitcoind leaves this to the end of the process; ours may live on.
    if (result != SEAM_OK) ReleaseDirectoryLocks();
    return result;
}

void seam_request_stop()
{
    try {
        (void)seam::RequestShutdown();
    } catch (...) {
        // Only a broken mutex or pipe gets here; there is nobody left to tell.
    }
}

int seam_wait_shutdown(uint64_t timeout_ms, seam_sink reason)
{
    return seam::Guarded(reason, [&] {
        std::unique_lock lock{seam::g_mutex};
        if (!seam::g_changed.wait_for(lock, std::chrono::milliseconds{timeout_ms},
                                      [] { return seam::g_stop_requested; })) {
            return SEAM_NOTHING;
        }
        seam::Put(reason, std::string_view{seam::g_errors});
        return SEAM_OK;
    });
}

int seam_stop(seam_sink error)
{
    return seam::Guarded(error, [&]() -> int {
        (void)seam::RequestShutdown();
        seam::ShutDown();
        ReleaseDirectoryLocks();
        if (seam::Node().exit_status == EXIT_SUCCESS) return SEAM_OK;
        return seam::Fail(SEAM_FAILED, error, "Bitcoin Core stopped after a fatal error, see debug.log");
    });
}
